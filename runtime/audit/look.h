/* Shared by the parts of an audit; nobody else includes this. */
#pragma once

#include <sys/types.h>

#include "audit/audit.h"
#include "kernel/mountinfo.h"

#define AUDIT_MAX_GROUPS 8

typedef struct AuditGroup {
        char *path;
        const char *name;   /* "/carrel/RUN", in path */
        char hierarchy[32]; /* as /proc/PID/cgroup calls it: "memory"; "": cgroup2 */
        char property[48];  /* "group (memory)" */
        bool v2;
        pid_t *pids; /* of it and the groups below it, sorted */
        size_t n;
} AuditGroup;

typedef struct AuditMount {
        MountInfo info;
        bool planned;
} AuditMount;

/* A property of processes: how many have it as planned. */
typedef struct AuditTally {
        const char *property;
        char planned[160];
        size_t same;
} AuditTally;

typedef struct Look {
        const AuditSpec *spec;
        const Plan *plan;
        Audit *audit;
        AuditGroup groups[AUDIT_MAX_GROUPS];
        size_t n_groups;
        pid_t init, shim;
        unsigned long long init_born;
        char *mounts_text; /* what they point into */
        AuditMount *mounts;
        size_t n_mounts;
        AuditTally tallies[48];
        size_t n_tallies, n_processes, n_descriptors;
        /* Where differences of the process at hand are kept until it was looked at again. */
        bool dry;
        size_t dry_differences;
} Look;

/** look_tell() - a finding. */
int look_tell(Look *l,
              const char *subject,
              const char *property,
              const char *planned,
              const char *found,
              bool same);

/* procfs.c: bounded reads of /proc/PID */

/** proc_read() - a file of a process, fresh and NUL-terminated; NULL: it is gone, or too much. */
char *proc_read(pid_t pid, const char *file, size_t max);
/** proc_field() - "Name:\tvalue" of a status text, copied without the newline. false: not there. */
bool proc_field(const char *text, const char *name, char *ret_value, size_t size);
/** proc_link() - where a link of a process points. */
bool proc_link(pid_t pid, const char *file, char *ret_target, size_t size);
/** proc_start_time() - 0: gone. With the id it names a process for good. */
unsigned long long proc_start_time(pid_t pid);
/** proc_namespace() - "mnt:[4026531841]"; "" where it cannot be told. */
void proc_namespace(pid_t pid, const char *name, char *ret_text, size_t size);
/** proc_mount_id() - of what /proc/PID/@file is; -1: not to be told. */
int proc_mount_id(pid_t pid, const char *file);
/** proc_name() - "1234 (make)". */
void proc_name(pid_t pid, char *ret_name, size_t size);

/* groups.c */
int groups_find(Look *l, Error **reterr);
bool group_has(const AuditGroup *g, pid_t pid);
int groups_check_limits(Look *l);
void groups_done(Look *l);

/* mounts.c */
int mounts_check(Look *l);
bool mounts_have(const Look *l, int id);
void mounts_done(Look *l);

/* processes.c */
int processes_find_init(Look *l, Error **reterr);
int processes_check(Look *l);
