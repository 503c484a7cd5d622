/*
 * The shim's own wall
 *
 * After shim_confine() the process has an id of its own that owns nothing, an empty root, no
 * capability, a Landlock wall without a door, a small list of system calls, and cannot be traced or
 * dumped by its likes. What it needs was opened before.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

typedef struct ConfineFilter {
        uint8_t *bpf;
        size_t size;
} ConfineFilter;

/** confine_compile() - the list of system calls, once, in the zygote. */
int confine_compile(ConfineFilter *ret_filter, Error **reterr);

/**
 * shim_confine() - for good
 * @empty_fd:  an empty directory, which becomes "/"
 * @id:        uid and gid; 0 for a user's carrel: the user's own, as there may be no other
 * @file_size: the most any file may grow to through this process
 * @degraded:  takes what this host has not, and is not required
 */
int shim_confine(const ConfineFilter *filter,
                 int empty_fd,
                 uint32_t id,
                 uint64_t file_size,
                 ErrorList *degraded,
                 Error **reterr);
