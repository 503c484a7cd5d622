/*
 * Copies of small host trees
 *
 * Trust: host files only, but some may be written to while they are copied: what is opened is what
 * is judged, and nothing is followed.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/* Whoever makes the image, which is root but in tests. */
#define IMAGE_OWNER ((uid_t)-1)

#define IMAGE_COPY_BYTES_MAX   (64 * MIB)
#define IMAGE_COPY_ENTRIES_MAX 16384u

/* What all copies of one image have taken so far. */
typedef struct ImageBudget {
        uint64_t bytes;
        uint32_t entries;
} ImageBudget;

/**
 * image_copy() - copy @path of the host, a file, link or tree, to the same path in @root_fd
 *
 * Kept: permission bits but set-user-id, set-group-id and sticky; links as links. Left out: what
 * does not exist, devices, fifos, sockets, and what others cannot read.
 *
 * Return: 0, -E2BIG past a limit, -errno.
 */
int image_copy(int root_fd, const char *path, ImageBudget *budget, Error **reterr);

/** image_stamp() - write the identity (type, inode, size, mtime) of each entry of @path to @to, in
 * a stable order. */
int image_stamp(FILE *to, const char *path, ImageBudget *budget, Error **reterr);
