/*
 * What a run left different: walking an overlay's upper directory beside the original
 *
 * Model:      upper holds whole files that were written, whiteouts (character device 0:0, or the
 * xattr overlay.whiteout) for what was removed, and overlay.opaque="y" on
 * directories that replaced one. overlay.origin on a file says it was copied up from the
 * original. Mounted with redirect_dir=nofollow, metacopy=off, index=off: nothing else appears. The
 * attributes begin with "trusted.", or with "user." where a user without root made the overlay. See
 * Documentation/filesystems/overlayfs.rst of the kernel. Trust:      upper was written by an agent,
 * and lower may hold hostile names as well. Both are walked by descriptor, without following a link
 * (path_open_beneath()); depth (128), entries and path length are limited. Nothing here runs a
 * program.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "proto/messages.h"

/* One changed path, in path order; directories before what they hold. */
typedef struct ChangeItem {
        Carrel__V1__ChangeKind kind;
        const char *path; /* relative, no leading '/' */
        bool has_lower, has_upper;
        struct stat lower, upper;
        bool origin; /* upper was copied up from lower */
} ChangeItem;

/**
 * changes_walk() - call @use for each change, in order of path
 *
 * A file copied up but with the same type, permissions, size and bytes as the original is no
 * change. A directory is a change only where it was added, removed, or its permissions differ. A
 * removed directory is one DELETED for each path that it held, deepest last. Sockets, FIFOs and
 * device nodes in upper are passed on like files; the caller decides. Ids are not compared: they
 * differ by design.
 *
 * Return: 0; -E2BIG past a limit; what @use returned where negative.
 */
int changes_walk(int lower_fd,
                 int upper_fd,
                 int (*use)(const ChangeItem *item, void *data),
                 void *data,
                 Error **reterr);

/**
 * changes_equal() - do lower and upper hold the same at @path? Bytes, a link's target, a device's
 * number.
 * @lower, @upper: as they were seen; of one type, no directory
 *
 * Return: 1, 0, -errno (-ESTALE: it is of another type by now).
 */
int changes_equal(int lower_fd,
                  int upper_fd,
                  const char *path,
                  const struct stat *lower,
                  const struct stat *upper);

/**
 * changes_origin_is() - was upper's file @path copied up from what is @from in lower?
 *
 * A file that was moved keeps its origin, so an origin alone does not say that lower ever had
 * @path.
 *
 * Return: 1 (also where it was copied up, but the kernel may not say from what: without root), 0
 * (also where the file system knows no handles), -errno.
 */
int changes_origin_is(int upper_fd, const char *path, int lower_fd, const char *from);

/**
 * changes_in_git() - whether a path is git's own: ".git", in any case and at any depth, or below
 * one
 *
 * What stands there can make a later git command run a program (hooks, configuration).
 */
bool changes_in_git(const char *path);
