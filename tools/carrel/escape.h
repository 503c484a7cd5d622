/*
 * Foreign bytes on a person's terminal
 *
 * Trust: the bytes are hostile. What passes: printable UTF-8, newline, tab, and colours (SGR
 * sequences, ECMA-48). Other control characters, broken UTF-8 and characters that reorder text
 * (U+202A..U+202E, U+2066..U+2069) are written as \xNN. A sequence may be split between two calls.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct Escaper {
        FILE *to;
        bool plain; /* newlines, tabs and colours are escaped too: for words within a line */
        unsigned char held[32];
        size_t n;
} Escaper;

void escaper_feed(Escaper *e, const void *data, size_t size);

/** escaper_end() - what is held will not be completed: write it escaped. */
void escaper_end(Escaper *e);

/** escape_word() - a string within a line. */
void escape_word(FILE *to, const char *s);
