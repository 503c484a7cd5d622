/*
 * Putting a run's changes into the original directory
 *
 * First every change is held against the original; only if none conflicts is anything written. A
 * file is written beside its place and renamed over it, so a reader sees the old or the new one.
 *
 * A conflict: the original's entry changed (ctime) after the run started, or vanished although the
 * run had copied it up, or appeared although the run created it, or has another type than it had;
 * unless what is there already equals what the run made (then nothing is to be done: apply twice is
 * apply once).
 *
 * A protected change is left out, with what cannot be without it: the removal of a directory that
 * holds such a path, and what would stand in its place.
 *
 * Trust: the run's files are hostile. No link is followed on either side; device nodes, sockets and
 * FIFOs are refused; set-user-id and set-group-id bits are dropped; names are data, never parsed.
 */
#pragma once

#include "workspace/protect.h"

typedef struct ApplyResult {
        size_t applied; /* changes made, or to be made where only checked */
        size_t conflicts;
        size_t left_out; /* changes below .git, where these were not asked for */
        size_t kept;     /* changes that are protected, and directories that stay with them */
} ApplyResult;

typedef struct ApplyOptions {
        uint64_t started_unix_us; /* when the run began to see the original */
        PatternSet protected;     /* what is left out, and stays as it is in the original */
        bool check_only;
        bool with_git; /* also what is git's own: its hooks and configuration can run programs here
                        */
        /* Called for each change that is left out as protected; may be NULL. */
        void (*kept)(const char *path, void *data);
        /* Called for each conflict with the path and the reason; may be NULL. */
        void (*conflict)(const char *path, const char *why, void *data);
        /* Called for each change applied (or to be applied); may be NULL. */
        void (*applied)(const ChangeItem *item, void *data);
        void *data;
} ApplyOptions;

/**
 * apply_changes() - check, then apply
 * @to_fd:    the original directory, O_RDONLY | O_DIRECTORY; borrowed
 * @upper_fd: the run's upper directory; borrowed
 *
 * New files get the owner of @to_fd; a changed file keeps the owner it has.
 *
 * Return: 0; -EEXIST when there are conflicts (nothing was written); -errno in the middle (the
 * error says which path, and that the ones before it are applied; applying again goes on).
 */
int apply_changes(int to_fd,
                  int upper_fd,
                  const ApplyOptions *options,
                  ApplyResult *ret_result,
                  Error **reterr);
