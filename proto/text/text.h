/*
 * Text: YAML and JSON to messages and back, from protobuf-c's descriptors
 *
 * One walker for every schema: nothing in carrel parses or prints a format by hand. A field's name
 * carries its number's unit and the text drops that suffix (see proto/carrel/v1/common.proto):
 *   *_bytes    "512", "64KiB", "4GiB", "1.5GiB"; also kB, MB, GB (powers of 1000)
 *   *_unix_us  RFC 3339, UTC
 *   *_us       "250ms", "90s", "30m", "1h30m", "2d"; a bare number is refused: it has no unit
 * An enumerator is its name without the type's prefix, lower case, '-' for '_'. A map is a mapping;
 * a repeated field a sequence; bytes are base64. proto3 `oneof` members are plain fields of which
 * at most one may stand.
 *
 * Trust: a person's file, in the end perhaps an agent's. Size (1 MiB), nesting (64) and node count
 * are limited; aliases and merge keys are refused (they can make a small file huge).
 */
#pragma once

#include "proto/messages.h"

/* Where each field stood in the text: so that later checks can say line and column too. */
typedef struct TextPlaces TextPlaces;

/**
 * text_parse() - one YAML or JSON document to a message
 * @name:       file name for errors
 * @ret_places: may be NULL
 *
 * Errors read "<file>:<line>:<column>: <what>", with a "did you mean" hint for an unknown field or
 * enumerator, and for a duplicate key the first one's place.
 *
 * Return: 0; -EINVAL for anything wrong in the text; -E2BIG past a limit.
 */
int text_parse(const char *name,
               const char *text,
               size_t size,
               const MessageDescriptor *d,
               void **ret_message,
               TextPlaces **ret_places,
               Error **reterr);

/**
 * text_parse_known() - as text_parse(), for a format that is not carrel's: unknown fields are
 * skipped
 *
 * Everything else holds: limits count what is skipped, too, and what is known must be right.
 */
int text_parse_known(const char *name,
                     const char *text,
                     size_t size,
                     const MessageDescriptor *d,
                     void **ret_message,
                     Error **reterr);

/** text_parse_file() - read @path relative to @dir_fd and text_parse() it. */
int text_parse_file(int dir_fd,
                    const char *path,
                    const MessageDescriptor *d,
                    void **ret_message,
                    TextPlaces **ret_places,
                    Error **reterr);

/** text_locate() - prefix an error that names a field ("checks[1].timeout") with the file, line and
 * column. */
void text_locate(const TextPlaces *places, Error *e);

TextPlaces *text_places_free(TextPlaces *p);

typedef enum TextFormat {
        TEXT_FORMAT_YAML,
        TEXT_FORMAT_JSON,      /* indented */
        TEXT_FORMAT_JSON_LINE, /* one line, no newline at the end */
} TextFormat;

/** text_print() - a message as text in a fresh buffer; unset fields are left out. What is printed
 * parses again. */
int text_print(const Message *m, TextFormat format, char **ret_text, Error **reterr);

/** text_duration() / text_size() - the canonical text of a number, for people: "1m30s", "4GiB". */
char *text_duration(uint64_t us);
char *text_size(uint64_t bytes);

/** text_enum() - an enumerator's text, as "timed-out"; "?" where the number is not known. */
const char *text_enum(const ProtobufCEnumDescriptor *d, int value);

static inline void text_places_freep(TextPlaces **p) {
        *p = text_places_free(*p);
}
