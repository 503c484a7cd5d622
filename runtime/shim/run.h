/* The shim's life after its launch. */
#pragma once

#include "shim/shim.h"

/* What the launch made; all of it is consumed. */
typedef struct ShimSpec {
        SpawnRequest *request;
        Spool *spool;
        CgroupOpen cgroup;
        CgroupLeaf *leaves; /* the harness's, then one for each check of the plan; on the heap */
        int attach_fds[3];
        int link_fd;   /* to the supervisor that asked */
        int listen_fd; /* where a later one comes in */
        int guest_listen_fd;
        int init_fd; /* our end of init's control socket */
        int init_pidfd;
        Error *degraded;     /* what the host could not give, or NULL */
        uint64_t started_us; /* boottime, before the first system call of the set-up */
} ShimSpec;

/** shim_run() - confined: serve until the run has ended and its workspace is gone. */
void shim_run(ShimSpec *spec);

/** shim_report_failure() - the run could not be started: the only event that the spool will ever
 * hold. */
void shim_report_failure(Spool *spool, const Error *error);
