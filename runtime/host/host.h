/*
 * What this host can enforce, found out by trying
 *
 * Model:     a table of checks (checks.c). A check's probe *uses* a feature once, in a child of its
 * own that is gone when it returns; no version number and no list of features is believed. What a
 * probe makes is either its child's (namespaces, descriptors) or stands in the scratch directory,
 * which is emptied after each probe.
 * Invariant: nothing is left: no mount, group, loop device, file; no setting of the host is changed
 * for longer than a probe takes.
 * Trust:     runs with the caller's rights, reads no hostile input. A probe that hangs is killed.
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

#define HOST_PROBE_TIMEOUT_MS 10000
#define HOST_V2_ALONE                                                                              \
        "use cgroup v2 alone: boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all"
#define HOST_WRITABLE "choose one that you can write: --state-dir, CARREL_STATE_DIR"

/* What a probe's child says; of fixed size, so that it fits a pipe. */
typedef struct HostResult {
        Carrel__V1__HostState state;
        int code; /* errno of what is missing; 0: none */
        char found[256];
        const char *consequence; /* another than the check's own, or NULL */
        char remedy[256];        /* better than the check's own, where the probe knows the cause */
} HostResult;

/* What probes need of their surroundings. */
typedef struct HostProbe {
        int scratch_fd;   /* an empty directory on the state directory's file system, or -EBADF */
        const char *name; /* of that directory, unique on this host */
        bool root;
        uint64_t argument; /* the check's */
} HostProbe;

typedef struct HostCheck {
        const char *group;
        const char *name;
        const char *purpose;
        Carrel__V1__HostNeed need;
        void (*probe)(const HostProbe *p, HostResult *ret_result); /* in a child */
        uint64_t argument;
        const char *consequence;
        const char *remedy;
} HostCheck;

extern const HostCheck host_checks[];
extern const size_t host_n_checks;

/**
 * host_examine() - run all checks
 * @state_dir: where records are, or will be kept; need not exist
 *
 * Return: 0, whatever was found; negative errno where not even the trying was possible.
 */
int host_examine(const char *state_dir, HostReport **ret_report, Error **reterr);

/** host_probe() - one check in its child. */
void host_probe(const HostCheck *check, const HostProbe *p, HostResult *ret_result);

/* ---- for probes: results ---- */

void host_found(HostResult *r, Carrel__V1__HostState state, const char *format, ...) _printf_(3, 4);
/** host_lacks() - missing, with the text of @code (errno). */
void host_lacks(HostResult *r, int code, const char *format, ...) _printf_(3, 4);
/** host_lacks_error() - missing, as a library function says it; takes over its hint. Frees @e. */
void host_lacks_error(HostResult *r, Error *e);
/** host_enter_user_namespace() - without root: as its root, with one id. Return: 0, -errno. */
int host_enter_user_namespace(void);
/** host_read_text() - the first line of a small file of the kernel; "" where there is none. */
void host_read_text(const char *path, char *ret_text, size_t size);

/* ---- the probes ---- */

void host_probe_machine(const HostProbe *p, HostResult *r);
void host_probe_root(const HostProbe *p, HostResult *r);
void host_probe_container(const HostProbe *p, HostResult *r);
void host_probe_user_namespace(const HostProbe *p, HostResult *r);
void host_probe_unprivileged_user_namespace(const HostProbe *p, HostResult *r);
void host_probe_namespace(const HostProbe *p, HostResult *r);

void host_probe_mount_api(const HostProbe *p, HostResult *r);
void host_probe_idmapped(const HostProbe *p, HostResult *r);
void host_probe_overlay(const HostProbe *p, HostResult *r);
void host_probe_hidepid(const HostProbe *p, HostResult *r);
void host_probe_openat2(const HostProbe *p, HostResult *r);
void host_probe_volume(const HostProbe *p, HostResult *r);

void host_probe_cgroup_limits(const HostProbe *p, HostResult *r);
void host_probe_cgroup_clone(const HostProbe *p, HostResult *r);
void host_probe_cgroup_kill(const HostProbe *p, HostResult *r);
void host_probe_cgroup_swap(const HostProbe *p, HostResult *r);
void host_probe_cgroup_oom_group(const HostProbe *p, HostResult *r);
void host_probe_cgroup_io(const HostProbe *p, HostResult *r);

void host_probe_seccomp(const HostProbe *p, HostResult *r);
void host_probe_seccomp_notify(const HostProbe *p, HostResult *r);
void host_probe_capabilities(const HostProbe *p, HostResult *r);
void host_probe_landlock(const HostProbe *p, HostResult *r);
void host_probe_cgroup_bpf(const HostProbe *p, HostResult *r);
void host_probe_unprivileged_bpf(const HostProbe *p, HostResult *r);
void host_probe_ptrace_scope(const HostProbe *p, HostResult *r);
void host_probe_core_pattern(const HostProbe *p, HostResult *r);

void host_probe_pidfd(const HostProbe *p, HostResult *r);
void host_probe_close_range(const HostProbe *p, HostResult *r);
void host_probe_memfd_exec(const HostProbe *p, HostResult *r);
