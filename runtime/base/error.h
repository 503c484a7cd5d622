/*
 * The one error type: errno, what failed on which quoted object, and what to do instead
 *
 * A function that can fail returns a negative errno and takes `Error **reterr` last. reterr may be
 * NULL, is untouched on success and must point to NULL on entry. Libraries never print; main(),
 * sessions and the CLI do. The protocol's Error message has the same fields.
 */
#pragma once

#include "base/util.h"

typedef struct Error {
        int code;    /* errno, positive */
        char *what;  /* never NULL */
        char *hint;  /* next step, or NULL */
        char *field; /* path of the offending field in a message, or NULL */
} Error;

/**
 * error_set() - report a failed system call
 * @reterr: where the new error goes, may be NULL
 * @code:   errno, positive; its text is appended to the message
 *
 * Return: -code, so that a caller can return the call itself.
 */
int error_set(Error **reterr, int code, const char *format, ...) _printf_(3, 4);

/**
 * error_refuse() - report something that carrel itself refuses
 * @code:   errno that fits best, positive; not spelled out in the message
 * @hint:   what to do instead, may be NULL; copied
 *
 * Return: -code.
 */
int error_refuse(Error **reterr, int code, const char *hint, const char *format, ...)
        _printf_(4, 5);

/**
 * error_wrap() - prefix an error with the caller's own object: "<this>: <what was there>"
 * @r: the negative errno to pass on
 *
 * Return: @r.
 */
int error_wrap(Error **reterr, int r, const char *format, ...) _printf_(3, 4);

/** error_hint() - add the next step, unless a deeper layer knew one already. Return: @r. */
int error_hint(Error **reterr, int r, const char *format, ...) _printf_(3, 4);

/** error_field() - name the field that is at fault, unless it is named already. Return: @r. */
int error_field(Error **reterr, int r, const char *format, ...) _printf_(3, 4);

/** error_move() - hand @from over to @to (both may be NULL); an error already there is kept. */
void error_move(Error **to, Error **from);

/** error_new_copy() - an error out of its parts, as they come from a peer; NULL parts are allowed.
 */
Error *error_new_copy(int code, const char *what, const char *hint, const char *field);

/* What went missing on the way, and did not stop it; what is over the room is dropped. */
typedef struct ErrorList {
        Error *items[8];
        size_t n;
} ErrorList;

/** error_list_add() - @list may be NULL; consumes *@error. */
void error_list_add(ErrorList *list, Error **error);
void error_list_done(ErrorList *list);

/**
 * error_print() - "carrel: what" and, on a line of its own, "  hint: what to do"
 *
 * Control characters are escaped: a terminal must survive a hostile file name.
 */
void error_print(FILE *to, const char *program, const Error *e);

Error *error_free(Error *e);

static inline void error_freep(Error **e) {
        *e = error_free(*e);
}

#define _cleanup_error_ _cleanup_(error_freep)
