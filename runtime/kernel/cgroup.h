/*
 * Control groups of a workspace, on pure v2 and on hybrid hosts
 *
 * Model:   a workspace has one group named after its run below carrel's own parent group "carrel":
 * in the cgroup2 hierarchy always (membership, kill, freeze, network filters), and on a hybrid host
 * also in the v1 hierarchies that hold the memory, pids and cpu controllers (limits). Durable:
 * cgroup_create() writes every path to the run's file "cgroups" before it makes the first one, and
 *          cgroup_destroy() goes by that file alone: so a roll-back, a normal end and the recovery
 * after a crash are the same code. Trust:   runs privileged. Never touches a group that it did not
 * make, never mounts anything. Source:  Documentation/admin-guide/cgroup-v2.rst,
 * cgroup-v1/{memory,pids}.rst.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define CGROUP_MAX_HIERARCHIES 8 /* cgroup2, and v1 memory, pids, cpu, cpuacct, blkio */

typedef struct CgroupLimits {
        uint64_t memory_bytes; /* 0: no limit, in all of them but swap */
        uint64_t swap_bytes;   /* beside memory; 0: none */
        uint32_t pids;
        uint32_t cpu_percent;
        uint32_t cpu_weight;
        uint64_t io_bytes; /* a second, each way, from and to @disk */
        dev_t disk;
} CgroupLimits;

/* Where this host's hierarchies are; found once, by cgroup_host_open(). */
typedef struct CgroupHost {
        bool hybrid;
        struct {
                char *path;                    /* carrel's parent group */
                unsigned controllers;          /* bits of the controllers that live here */
        } hierarchies[CGROUP_MAX_HIERARCHIES]; /* the first is cgroup2 */
        size_t n;
} CgroupHost;

/* A workspace's group, opened. Descriptors are -EBADF where there is none. */
typedef struct CgroupOpen {
        int dir_fd;       /* in cgroup2, where init begins: for clone3(CLONE_INTO_CGROUP) */
        int namespace_fd; /* a cgroup namespace whose root is the run's group; -EBADF: unshare one
                             there */
        /* `tasks` of the v1 groups: "0" moves the writing thread. Not cgroup.procs: to move a whole
         * process the kernel waits for an RCU grace period (some 10 ms), to move the current
         * thread it does not. */
        int tasks_fds[CGROUP_MAX_HIERARCHIES];
        size_t n_tasks;
        /* What the whole run has used. */
        int memory_events_fd; /* memory.events or memory.oom_control */
        int pids_events_fd, pids_peak_fd, cpu_fd, io_fd;
} CgroupOpen;

#define CGROUP_OPEN_NONE                                                                           \
        (CgroupOpen) {                                                                             \
                .dir_fd = -EBADF, .namespace_fd = -EBADF, .memory_events_fd = -EBADF,              \
                .pids_events_fd = -EBADF, .pids_peak_fd = -EBADF, .cpu_fd = -EBADF,                \
                .io_fd = -EBADF                                                                    \
        }

/* A part of it that the kernel kills as a whole when memory runs out: all attempts' harness, or one
 * check. */
typedef struct CgroupLeaf {
        int dir_fd;    /* in cgroup2, to clone a process into */
        int tasks_fd;  /* in v1, for a process to enter */
        int events_fd; /* oom_kill is counted here */
        int peak_fd;
        int pids_fd; /* until Linux 6.11 a fork that failed for a group's limit is counted where it
                        failed */
        int oom_fd; /* v1: readable when a process was killed; cgroup2 kills the others by itself */
} CgroupLeaf;

#define CGROUP_LEAF_NONE                                                                           \
        (CgroupLeaf) {                                                                             \
                .dir_fd = -EBADF, .tasks_fd = -EBADF, .events_fd = -EBADF, .peak_fd = -EBADF,      \
                .pids_fd = -EBADF, .oom_fd = -EBADF                                                \
        }

/** cgroup_host_open() - find the hierarchies. Return: 0; -ENOTSUP with the missing controller and
 * the remedy. */
int cgroup_host_open(CgroupHost *ret_host, Error **reterr);
void cgroup_host_done(CgroupHost *h);

/** cgroup_host_has() - whether something has the controller of that name. */
bool cgroup_host_has(const CgroupHost *h, const char *controller);

/**
 * cgroup_host_open_user() - what a user has: the group that was delegated to them, or none at all
 *
 * Where there is none, @ret_host has no hierarchy, and all that is made with it is nothing: the
 * functions below do their work on no group.
 */
int cgroup_host_open_user(CgroupHost *ret_host, Error **reterr);

/** cgroup_user_release() - cgroup_parent_release() for that one, and back to where everybody was.
 */
void cgroup_user_release(const CgroupHost *h);

/** cgroup_create() - make the groups of run @name and set the limits; @run_fd: the run's directory.
 */
int cgroup_create(const CgroupHost *h,
                  int run_fd,
                  const char *name,
                  const CgroupLimits *limits,
                  Error **reterr);

/**
 * cgroup_open() - descriptors of a created group, to hand to whoever starts the workspace; once for
 * each
 * @owner: host id of the workspace's root, which may from now on move processes between its leaves
 */
int cgroup_open(const CgroupHost *h,
                const char *name,
                uint32_t owner,
                CgroupOpen *ret_open,
                Error **reterr);
void cgroup_open_done(CgroupOpen *o);

/** cgroup_open_leaf() - make the part @leaf of run @name, after cgroup_open(). */
int cgroup_open_leaf(const CgroupHost *h,
                     const char *name,
                     const char *leaf,
                     uint32_t owner,
                     CgroupLeaf *ret_leaf,
                     Error **reterr);
void cgroup_leaf_done(CgroupLeaf *l);

/** cgroup_disk_of() - the whole disk that holds the file behind @fd, as CgroupLimits.disk wants it.
 */
int cgroup_disk_of(int fd, dev_t *ret_disk, Error **reterr);

/** cgroup_slows_writeback() - whether a limit of io also holds for what the page cache writes back
 * later. Source: Documentation/admin-guide/cgroup-v2.rst, "Writeback"; v1 charges that to the host.
 */
bool cgroup_slows_writeback(const CgroupHost *h);

/** cgroup_kill() - SIGKILL every process of a run's group, by its "cgroups" file. No group:
 * success. */
int cgroup_kill(int run_fd, Error **reterr);

/**
 * cgroup_destroy() - remove a run's groups, with groups below them, and the file
 *
 * Return: 0 (also if there is nothing); -EBUSY while a process is left.
 */
int cgroup_destroy(int run_fd, Error **reterr);

/** cgroup_parent_release() - remove carrel's parent groups if no run uses them; never fails. */
void cgroup_parent_release(const CgroupHost *h);

/** cgroup_counter() - the number behind @key in a file such as memory.events; 0 where it is
 * missing. */
uint64_t cgroup_counter(int fd, const char *key);

/** cgroup_number() - the number that a file such as memory.peak holds; 0 where it is missing. */
uint64_t cgroup_number(int fd);

/** cgroup_cpu_us(), cgroup_io() - what the whole run has used; 0 where the host does not count. */
uint64_t cgroup_cpu_us(const CgroupOpen *o);
void cgroup_io(const CgroupOpen *o, uint64_t *ret_read_bytes, uint64_t *ret_written_bytes);
