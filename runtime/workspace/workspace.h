/*
 * A plan becomes a workspace
 *
 * Theory of operation. workspace_start() runs privileged in the process that is about to become the
 * shim. It makes what must be made from outside (user namespaces, detached copies of the host's
 * trees, the clock), then clones one child into new namespaces. That child builds the inside, stage
 * by stage, enters its user namespace last, and becomes the workspace's process 1 by executing init
 * from a sealed memory file. All namespaces but the user namespace therefore belong to the host's
 * user namespace: root inside owns nothing but its own ids.
 *
 * The stages stand in two tables (workspace.c) with what each needs and gives; the executor holds
 * them to it. Nothing here needs to be undone by hand: all is descriptors and namespaces, which end
 * with their last process. What does outlive processes (id range, directories, control groups) is
 * resources.h's.
 *
 * Trust:    runs as root. The plan is the supervisor's; every path inside the workspace is resolved
 * inside its root, every host tree comes as a descriptor. Errors:   before the clone: returned.
 * After it: the child sends InitEvent.failed over the control socket and exits; a workspace that is
 * up sends InitEvent.ready.
 */
#pragma once

#include "kernel/cgroup.h"
#include "kernel/userns.h"
#include "proto/messages.h"

#define WORKSPACE_MAX_SOURCES  20
#define WORKSPACE_RUN_DIR      "/run/carrel"
#define WORKSPACE_GUEST_SOCKET WORKSPACE_RUN_DIR "/guest.sock"
#define WORKSPACE_GUEST_DIR    WORKSPACE_RUN_DIR "/bin"
#define WORKSPACE_CREDENTIALS  "/run/credentials"

typedef struct WorkspaceSpec {
        const Plan *plan;
        UsernsLayout layout; /* of carrel's own user namespace */
        uint32_t base_id;    /* first of its 65,536 host ids */
        int layers_fd; /* detached mount of the run's layers (layers.h); attached by the child */
        const int *
                source_fds; /* O_PATH, one for each mount of the plan that needs_source, in order */
        size_t n_sources;
        const CgroupOpen *cgroup;
        int init_fd;         /* init's binary, sealed */
        int guest_fd;        /* carrel-guest's binary, O_PATH */
        int guest_listen_fd; /* fresh AF_UNIX socket; bound to WORKSPACE_GUEST_SOCKET inside */
        int control_fd;      /* init's end of the shim's socket pair; consumed by the child */
        ErrorList *degraded; /* what the host could not give and the plan does not require */
        int netns_fd;        /* prepared network namespace, or -EBADF: make one */
} WorkspaceSpec;

/** workspace_mount_needs_source() - whether a mount of a plan comes with a descriptor from outside.
 */
bool workspace_mount_needs_source(const PlanMount *m);

/**
 * workspace_start() - build it
 * @ret_pid: process id of init   @ret_pidfd: its pidfd
 *
 * Changes the caller: its children live in a time namespace of their own from now on.
 */
int workspace_start(const WorkspaceSpec *spec, pid_t *ret_pid, int *ret_pidfd, Error **reterr);
