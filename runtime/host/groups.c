/*
 * Probes of control groups: each makes one as a run's is made (kernel/cgroup.h) and tries a feature
 * of it. The group goes by the file in the scratch directory, see examine.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/host.h"
#include "kernel/cgroup.h"

#define HOST_OK       CARREL__V1__HOST_STATE__HOST_STATE_OK
#define HOST_DEGRADED CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED
#define HOST_MISSING  CARREL__V1__HOST_STATE__HOST_STATE_MISSING

typedef struct HostGroup {
        CgroupHost host;
        CgroupOpen open;
} HostGroup;

static int host_make_group(const HostProbe *p, HostGroup *g, Error **reterr) {
        const CgroupLimits limits = {.memory_bytes = 64 * MIB, .pids = 16, .cpu_percent = 50};
        int r;

        if (p->scratch_fd < 0)
                return error_refuse(reterr, EROFS, HOST_WRITABLE,
                                    "nothing can be written below the state directory");
        r = cgroup_host_open(&g->host, reterr);
        if (r == 0)
                r = cgroup_create(&g->host, p->scratch_fd, p->name, &limits, reterr);
        return r < 0 ? r : cgroup_open(&g->host, p->name, 0, &g->open, reterr);
}

static void host_remove_group(const HostProbe *p, HostGroup *g) {
        (void)cgroup_destroy(p->scratch_fd, NULL);
        cgroup_open_done(&g->open);
        cgroup_parent_release(&g->host);
        cgroup_host_done(&g->host);
}

/* Runs @use with a fresh group. */
static void host_with_group(const HostProbe *p,
                            HostResult *r,
                            void (*use)(const HostProbe *p, const HostGroup *g, HostResult *r)) {
        HostGroup group = {
                .open = {.dir_fd = -EBADF, .memory_events_fd = -EBADF, .pids_events_fd = -EBADF}};
        Error *error = NULL;

        if (host_make_group(p, &group, &error) < 0)
                host_lacks_error(r, error);
        else
                use(p, &group, r);
        host_remove_group(p, &group);
}

/* Whether one of the group's directories has a file of either name. */
static bool host_group_has(const HostProbe *p, const HostGroup *g, const char *v2, const char *v1) {
        for (size_t i = 0; i < g->host.n; i++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s/%s", g->host.hierarchies[i].path, p->name,
                             i == 0 ? v2 : v1) >= 0 &&
                    access(path, F_OK) == 0)
                        return true;
        }
        return false;
}

static void host_use_limits(const HostProbe *p, const HostGroup *g, HostResult *r) {
        host_found(r, HOST_OK, "set on a group, %s", g->host.hybrid ? "hybrid hierarchies" : "v2");
}

static pid_t host_clone_into(int dir_fd) {
        struct clone_args args = {
                .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)dir_fd};

        return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void host_use_clone(const HostProbe *p, const HostGroup *g, HostResult *r) {
        pid_t pid = host_clone_into(g->open.dir_fd);

        if (pid == 0)
                _exit(0);
        if (pid < 0) {
                host_lacks(r, errno, "clone3");
                return;
        }
        (void)waitpid(pid, NULL, 0);
        host_found(r, HOST_OK, "a process began inside");
}

/* A process in the group, by whichever way there is. */
static pid_t host_start_inside(const HostGroup *g) {
        pid_t pid = fork();
        char text[24];

        if (pid == 0)
                for (;;)
                        pause();
        snprintf(text, sizeof text, "%d", (int)pid);
        if (pid > 0)
                (void)file_write_at(g->open.dir_fd, "cgroup.procs", text, NULL);
        return pid;
}

static void host_use_kill(const HostProbe *p, const HostGroup *g, HostResult *r) {
        pid_t pid = host_start_inside(g);
        int k = file_write_at(g->open.dir_fd, "cgroup.kill", "1", NULL);

        if (k < 0)
                host_found(r, HOST_DEGRADED, "no cgroup.kill: processes are killed one by one");
        else
                host_found(r, HOST_OK, "a group was killed");
        if (k < 0 && pid > 0)
                (void)kill(pid, SIGKILL);
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
}

static void host_tell_file(
        const HostProbe *p, const HostGroup *g, const char *v2, const char *v1, HostResult *r) {
        if (host_group_has(p, g, v2, v1))
                host_found(r, HOST_OK, "a group has it");
        else
                host_found(r, HOST_MISSING, "a group has no '%s'", g->host.hybrid ? v1 : v2);
}

static void host_use_swap(const HostProbe *p, const HostGroup *g, HostResult *r) {
        host_tell_file(p, g, "memory.swap.max", "memory.memsw.limit_in_bytes", r);
}

static void host_use_oom_group(const HostProbe *p, const HostGroup *g, HostResult *r) {
        host_tell_file(p, g, "memory.oom.group", "-", r);
        if (r->state != HOST_OK)
                host_found(r, HOST_DEGRADED, "memory is limited by a v1 hierarchy, which has none");
}

/* A hybrid host's blkio hierarchy is joined by runs whose policy limits it. */
static void host_use_io(const HostProbe *p, const HostGroup *g, HostResult *r) {
        static const char v1[] = "/sys/fs/cgroup/blkio/blkio.throttle.io_serviced";

        if (host_group_has(p, g, "io.max", "blkio.throttle.read_bps_device"))
                host_found(r, HOST_OK, "a group has it");
        else if (access(v1, F_OK) == 0) {
                host_found(r, HOST_DEGRADED, "in a v1 hierarchy");
                r->consequence = "what the page cache writes back later is not slowed";
                snprintf(r->remedy, sizeof r->remedy, HOST_V2_ALONE);
        } else
                host_found(r, HOST_MISSING, "a group has no 'io.max'");
}

void host_probe_cgroup_limits(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_limits);
}

void host_probe_cgroup_clone(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_clone);
}

void host_probe_cgroup_kill(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_kill);
}

void host_probe_cgroup_swap(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_swap);
}

void host_probe_cgroup_oom_group(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_oom_group);
}

void host_probe_cgroup_io(const HostProbe *p, HostResult *r) {
        host_with_group(p, r, host_use_io);
}
