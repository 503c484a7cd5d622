/*
 * What a run holds that outlives its processes: a range of host ids, its layers' directories, its
 * control groups
 *
 * Model:     three resources in one table, acquired in order, released in reverse. A resource's
 * durable name is written before (or in the same atomic step as) the resource is made, and
 * releasing goes by those names alone: so a failed start, a normal end and the recovery after kill
 * -9 or a reboot run the same code. ids      <state>/ids/<slot>, a symbolic link to the run's id,
 * made with one symlink(2) layers   <run>/volume or <run>/layers (layers.h) cgroups  <run>/cgroups
 * (kernel/cgroup.h) Kept:      the layer source/upper is the record of what the run changed;
 * everything else goes. Trust:     runs as root; the layers' content was written by an agent and is
 * only ever unlinked.
 */
#pragma once

#include "kernel/cgroup.h"
#include "kernel/userns.h"
#include "proto/messages.h"
#include "workspace/layers.h"

#define RESOURCES_IDS_DIR "ids"
typedef struct ResourcesSpec {
        int state_fd;
        int run_fd;
        const char *run;
        const Plan *plan;
        int source_fd; /* O_PATH of the task's directory, or -EBADF */
        const CgroupHost *cgroup;
        ErrorList *degraded; /* what the host could not give, and the run does without; or NULL */
        UsernsLayout layout; /* of carrel's own user namespace */
} ResourcesSpec;

typedef struct Resources {
        uint32_t base_id; /* first of the workspace's USERNS_RANGE host ids */
        uint32_t shim_id; /* host uid and gid of the shim; in no workspace's range */
        Layers layers;    /* its descriptor is the caller's */
} Resources;

/** resources_acquire() - all or nothing. Return: 0; -EUSERS when no id range is free; -errno. */
int resources_acquire(const ResourcesSpec *spec, Resources *ret_resources, Error **reterr);

/**
 * resources_stop() - kill what is left of the workspace and remove its control groups; idempotent
 *
 * Return: 0, nothing of it runs; -EBUSY while killed processes are still on their way out: call
 * again.
 */
int resources_stop(int state_fd, int run_fd, const char *run, Error **reterr);

/**
 * resources_release() - resources_stop(), and give everything else back; idempotent
 *
 * Removing layers may take a while; nobody needs to wait for it.
 */
int resources_release(int state_fd, int run_fd, const char *run, Error **reterr);

/** resources_set_pool() - the host ids that workspaces get from now on ("FIRST:COUNT"). Return: 0;
 * -EINVAL; -EBUSY: another pool is in use. */
int resources_set_pool(int state_fd, const char *pool, Error **reterr);

/** resources_find() - the host ids that run @run holds. Return: 0; -ENOENT, without an error. */
int resources_find(int state_fd, const char *run, Resources *ret_resources, Error **reterr);

/**
 * resources_note_init() - where no control group holds the workspace: its first process, by which
 * resources_stop() tells whether any is left
 *
 * The kernel says that a pid namespace's first process has ended when all others have
 * (pid_namespaces(7)).
 */
int resources_note_init(int run_fd, pid_t pid, Error **reterr);

/** resources_find_owners() - call @use for each run that holds an id range: what a recovery has to
 * look at. */
int resources_find_owners(int state_fd,
                          void (*use)(const char *run, void *data),
                          void *data,
                          Error **reterr);
