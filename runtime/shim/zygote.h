/*
 * The zygote: where shims come from
 *
 * Forked from the supervisor before it has read a configuration, a policy or a secret, with every
 * library mapped: so a shim costs one fork, runs no exec, and inherits nothing worth stealing. It
 * waits for requests on its one socket, forks, and forgets; it ends when the supervisor does.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "kernel/cgroup.h"
#include "kernel/userns.h"

typedef struct ZygoteSpec {
        const char *init_path;    /* carrel-init */
        const char *guest_path;   /* carrel-guest */
        UsernsLayout layout;      /* of the user namespace that all of carrel lives in */
        const CgroupHost *cgroup; /* a user's, who had to make room for it; NULL: the host's */
} ZygoteSpec;

/**
 * zygote_start() - fork it; call before anything else
 * @ret_fd: stream socket; requests and answers alternate (SpawnRequest, SpawnResponse)
 */
int zygote_start(const ZygoteSpec *spec, int *ret_fd, Error **reterr);
