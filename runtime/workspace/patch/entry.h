/*
 * One changed path as text that git apply takes
 *
 * The header lines are written here, because libgit2's functions on buffers know neither modes nor
 * links; hunks and binary bodies are libgit2's. Source of the format: git-diff(1), "generating
 * patch text with -p".
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "base/error.h"

typedef struct EntrySide {
        mode_t mode; /* of git: 0100644, 0100755, 0120000; 0: there is none */
        char *data;
        size_t size;
} EntrySide;

/** entry_mode() - git's mode of a file or link. */
mode_t entry_mode(mode_t mode);

/** entry_quote() - @prefix and @path as git writes them, in quotes where it must or @always. */
void entry_quote(FILE *to, const char *prefix, const char *path, int always);

/** entry_write() - nothing where git sees no difference. Return: 0, -ENOMEM, -EIO (libgit2). */
int entry_write(FILE *to, const char *path, const EntrySide *old, const EntrySide *new);
