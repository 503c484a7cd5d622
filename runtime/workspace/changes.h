/*
 * What a run left different: walking an overlay's upper directory beside the original
 *
 * Model:      upper holds whole files that were written, whiteouts (character device 0:0, or the xattr
 *             trusted.overlay.whiteout) for what was removed, and trusted.overlay.opaque="y" on directories that
 *             replaced one. trusted.overlay.origin on a file says it was copied up from the original.
 *             Mounted with redirect_dir=off, metacopy=off, index=off: nothing else appears.
 *             See Documentation/filesystems/overlayfs.rst of the kernel.
 * Trust:      upper was written by an agent, and lower may hold hostile names as well. Both are walked by
 *             descriptor, without following a link (path_open_beneath()); depth (128), entries and path
 *             length are limited. Nothing here runs a program.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "proto/messages.h"

/* One changed path, in path order; directories before what they hold. */
typedef struct ChangeItem {
        Carrel__V1__ChangeKind kind;
        const char *path;    /* relative, no leading '/' */
        bool has_lower, has_upper;
        struct stat lower, upper;
        bool origin;         /* upper was copied up from lower */
} ChangeItem;

/**
 * changes_walk() - call @use for each change, in order of path
 *
 * A file copied up but with the same type, permissions, size and bytes as the original is no change. A directory is
 * a change only where it was added, removed, or its permissions differ. A removed directory is one DELETED
 * for each path that it held, deepest last. Sockets, FIFOs and device nodes in upper are passed on like
 * files; the caller decides. Ids are not compared: they differ by design.
 *
 * Return: 0; -E2BIG past a limit; what @use returned where negative.
 */
int changes_walk(int lower_fd, int upper_fd, int (*use)(const ChangeItem *item, void *data), void *data,
                 Error **reterr);
