/*
 * One YAML or JSON document as a stream of events, with all that carrel does not take refused
 *
 * Trust: text is hostile. It is held against the size limit and checked to be UTF-8 without control
 * characters before libfyaml sees it (which would silently stop at some of them); aliases, anchors,
 * tags, a second document and too many nodes are refused as they come. libfyaml never prints.
 */
#pragma once

#include <libfyaml.h>
#include <stdbool.h>

#include "proto/text/text.h"

/* What a text may at most be. */
#define TEXT_MAX_SIZE  MIB
#define TEXT_MAX_DEPTH 64
#define TEXT_MAX_NODES 20000u /* keys and values; duplicate keys are looked for pair by pair */
#define TEXT_MAX_KEY   1024u  /* YAML's own limit for a simple key */

typedef struct TextReader {
        const char *name;
        struct fy_parser *parser;
        struct fy_diag *diag;
        size_t nodes;
        unsigned line, column; /* of the newest event, from 1 */
} TextReader;

/* An event and whom to give it back to. */
typedef struct TextEvent {
        struct fy_parser *parser;
        struct fy_event *event;
        unsigned line, column;
} TextEvent;

/** text_reader_init() - @name and @text are borrowed. Return: 0; -EINVAL, -E2BIG, -ENOMEM. */
int text_reader_init(
        TextReader *r, const char *name, const char *text, size_t size, Error **reterr);
void text_reader_done(TextReader *r);

/** text_reader_next() - the next event; an event still in @ret is given back first. */
int text_reader_next(TextReader *r, TextEvent *ret, Error **reterr);
void text_event_done(TextEvent *e);

/** text_event_scalar() - a scalar event's text, valid as long as the event; it may hold zero bytes.
 */
const char *text_event_scalar(const TextEvent *e, size_t *ret_length, bool *ret_plain);

/** text_diag_new() - for any use of libfyaml: collects what went wrong, never prints. NULL: no
 * memory. */
struct fy_diag *text_diag_new(void);
void text_diag_free(struct fy_diag *diag);

/** text_event_is_null() - an empty place, "~" or "null", without quotes. */
bool text_event_is_null(const TextEvent *e);

/** text_fail_at() - "<file>:<line>:<column>: <what>". Return: -EINVAL. */
int text_fail_at(const char *name,
                 unsigned line,
                 unsigned column,
                 Error **reterr,
                 const char *hint,
                 const char *format,
                 ...) _printf_(6, 7);

/** text_excerpt() - enough of a foreign text to recognize it, for an error. */
#define TEXT_EXCERPT_SIZE 72
const char *text_excerpt(const char *text, size_t length, char ret[static TEXT_EXCERPT_SIZE]);
