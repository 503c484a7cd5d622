/*
 * The groups of one workspace as descriptors, for the processes that have no path to them
 *
 * A run's group is divided: one leaf for the harness of all attempts, one for each check. The
 * limits stand at the run's group, so that leaves share them; a leaf is what the kernel kills as a
 * whole when memory runs out, and init is in none of them.
 *
 *      cgroup2 with controllers   RUN (no process), RUN/init, RUN/<leaf>: entered by clone
 *      hybrid                     cgroup2 RUN (all processes), v1 memory RUN (init) and RUN/<leaf>;
 *                                 the other v1 hierarchies RUN (all processes)
 *
 * Trust: what is written here is written by root; the descriptors that go into the workspace (for
 * init to clone a process into a leaf, or a process to enter one by `tasks`) are closed before
 * anything of the agent's runs. Source: Documentation/admin-guide/cgroup-v2.rst ("no internal
 * process"), clone(2) CLONE_INTO_CGROUP.
 */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "kernel/cgroup_internal.h"

#define CGROUP_INIT "init"

static bool cgroup_is_divided(const CgroupHost *h) {
        return h->hierarchies[0].controllers & CGROUP_MEMORY;
}

/* The first of these that the kernel has. */
static int cgroup_open_first(const char *dir, const char *const *files) {
        int fd = -EBADF;

        for (; *files && fd < 0; files++)
                fd = cgroup_open_file(dir, *files, O_RDONLY);
        return fd < 0 ? -EBADF : fd;
}

#define FILES(...)                                                                                 \
        (const char *const[]) {                                                                    \
                __VA_ARGS__, NULL                                                                  \
        }

static void cgroup_open_counters(CgroupOpen *o, const char *dir, unsigned bits, bool v2) {
        if (bits & CGROUP_MEMORY)
                o->memory_events_fd = cgroup_open_first(dir, v2 ? FILES("memory.events")
                                                                : FILES("memory.oom_control"));
        if (bits & CGROUP_PIDS) {
                o->pids_events_fd = cgroup_open_first(dir, FILES("pids.events"));
                o->pids_peak_fd = cgroup_open_first(dir, FILES("pids.peak")); /* Linux >= 6.6 */
        }
        if (v2 ? bits & CGROUP_CPU : bits & CGROUP_CPUACCT)
                o->cpu_fd = cgroup_open_first(dir, v2 ? FILES("cpu.stat") : FILES("cpuacct.usage"));
        if (bits & CGROUP_IO)
                o->io_fd = cgroup_open_first(dir,
                                             v2 ? FILES("io.stat")
                                                : FILES("blkio.throttle.io_service_bytes_recursive",
                                                        "blkio.throttle.io_service_bytes"));
}

/*
 * A cgroup namespace whose root is @dir: a process that is there asks for it. It shares the table
 * of descriptors, so what it opens is ours, and its exit status is the number.
 */
static int cgroup_open_namespace(int dir_fd, Error **reterr) {
        struct clone_args args = {
                .flags = CLONE_FILES | CLONE_VFORK | CLONE_INTO_CGROUP,
                .exit_signal = SIGCHLD,
                .cgroup = (uint64_t)dir_fd,
        };
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
        int status = 0;

        if (pid == 0) {
                int fd = unshare(CLONE_NEWCGROUP) < 0
                                 ? -1
                                 : open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC);

                _exit(fd > 0 && fd < 255 ? fd : 255);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
                return error_set(reterr, errno, "cannot create a cgroup namespace");
        if (!WIFEXITED(status) || WEXITSTATUS(status) == 255)
                return error_refuse(reterr, EPERM, NULL, "cannot create a cgroup namespace");
        return WEXITSTATUS(status);
}

/* Who may move a process from one leaf to another: the workspace's root, who has no path to them.
 */
static int cgroup_own(const char *dir, uint32_t owner, Error **reterr) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/cgroup.procs", dir) < 0)
                return error_set(reterr, ENOMEM, "cannot own a control group");
        return chown(path, owner, owner) < 0 ? error_set(reterr, errno, "cannot own '%s'", path)
                                             : 0;
}

/* Return: the new group @name below @dir, O_PATH. */
static int cgroup_make_leaf(
        const char *dir, const char *name, uint32_t owner, char **ret_path, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        int fd, r;

        if (asprintf(&path, "%s/%s", dir, name) < 0) {
                path = NULL;
                return error_set(reterr, ENOMEM, "cannot create a control group");
        }
        r = cgroup_make_dir(path, reterr);
        if (r == 0)
                r = cgroup_own(path, owner, reterr);
        if (r < 0)
                return r;
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", path);
        if (ret_path)
                *ret_path = TAKE_PTR(path);
        return fd;
}

/* cgroup2 with controllers: no process may stay in the run's own group. */
static int
cgroup_divide(CgroupOpen *o, const CgroupHost *h, const char *dir, uint32_t owner, Error **reterr) {
        int r = cgroup_own(dir, owner, reterr);

        if (r < 0)
                return r;
        o->namespace_fd = cgroup_open_namespace(o->dir_fd, reterr);
        if (o->namespace_fd < 0)
                return o->namespace_fd;
        cgroup_enable(dir, h->hierarchies[0].controllers);
        fd_close(o->dir_fd);
        r = o->dir_fd = cgroup_make_leaf(dir, CGROUP_INIT, owner, NULL, reterr);
        return r < 0 ? r : 0;
}

static int cgroup_open_v1(CgroupOpen *o, const char *path, Error **reterr) {
        int fd = cgroup_open_file(path, "tasks", O_WRONLY);

        if (fd < 0 && errno == ENOENT)
                return 0; /* nothing is limited there */
        if (fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", path);
        o->tasks_fds[o->n_tasks++] = fd;
        return 0;
}

static int cgroup_open_v2(
        CgroupOpen *o, const CgroupHost *h, const char *path, uint32_t owner, Error **reterr) {
        o->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (o->dir_fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", path);
        return cgroup_is_divided(h) ? cgroup_divide(o, h, path, owner, reterr) : 0;
}

int cgroup_open(const CgroupHost *h,
                const char *name,
                uint32_t owner,
                CgroupOpen *ret_open,
                Error **reterr) {
        CgroupOpen o = CGROUP_OPEN_NONE;
        int r = 0;

        for (size_t i = 0; i < h->n && r == 0; i++) {
                _cleanup_free_ char *path = cgroup_run_path(h, i, name);

                if (!path)
                        r = error_set(reterr, ENOMEM, "cannot open the control groups of '%s'",
                                      name);
                else if (i == 0)
                        r = cgroup_open_v2(&o, h, path, owner, reterr);
                else
                        r = cgroup_open_v1(&o, path, reterr);
                if (r == 0)
                        cgroup_open_counters(&o, path, h->hierarchies[i].controllers, i == 0);
        }
        if (r < 0) {
                cgroup_open_done(&o);
                return r;
        }
        *ret_open = o;
        return 0;
}

void cgroup_open_done(CgroupOpen *o) {
        int *const fds[] = {&o->dir_fd,         &o->namespace_fd, &o->memory_events_fd,
                            &o->pids_events_fd, &o->pids_peak_fd, &o->cpu_fd,
                            &o->io_fd};

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                *fds[i] = fd_close(*fds[i]);
        fd_close_many(o->tasks_fds, o->n_tasks);
        o->n_tasks = 0;
}

/* ---- leaves -------------------------------------------------------------------------------------
 */

/* v1 tells of a killed process by an event descriptor: cgroup-v1/memory.rst, "OOM Control". */
static int cgroup_watch_oom(const char *dir, int events_fd) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        _cleanup_free_ char *control = NULL;
        char text[32];

        snprintf(text, sizeof text, "%d %d", fd, events_fd);
        if (fd < 0 || asprintf(&control, "%s/cgroup.event_control", dir) < 0)
                return fd_close(fd);
        return file_write_at(AT_FDCWD, control, text, NULL) < 0 ? fd_close(fd) : fd;
}

static int cgroup_open_leaf_v2(
        const char *dir, const char *leaf, uint32_t owner, CgroupLeaf *l, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = cgroup_make_leaf(dir, leaf, owner, &path, reterr);
        int r;

        if (fd < 0)
                return fd;
        r = file_write_at(fd, "memory.oom.group", "1", reterr); /* Linux >= 4.19 */
        if (r < 0)
                return r;
        l->events_fd = cgroup_open_first(path, FILES("memory.events"));
        l->peak_fd = cgroup_open_first(path, FILES("memory.peak")); /* Linux >= 5.19 */
        l->pids_fd = cgroup_open_first(path, FILES("pids.events"));
        l->dir_fd = TAKE_FD(fd);
        return 0;
}

static int cgroup_open_leaf_v1(
        const char *dir, const char *leaf, uint32_t owner, CgroupLeaf *l, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = cgroup_make_leaf(dir, leaf, owner, &path, reterr);

        if (fd < 0)
                return fd;
        l->tasks_fd = cgroup_open_file(path, "tasks", O_WRONLY);
        if (l->tasks_fd < 0)
                return error_set(reterr, errno, "cannot open the control group '%s'", path);
        l->events_fd = cgroup_open_first(path, FILES("memory.oom_control"));
        l->peak_fd = cgroup_open_first(path, FILES("memory.max_usage_in_bytes"));
        l->oom_fd = cgroup_watch_oom(path, l->events_fd);
        return 0;
}

int cgroup_open_leaf(const CgroupHost *h,
                     const char *name,
                     const char *leaf,
                     uint32_t owner,
                     CgroupLeaf *ret_leaf,
                     Error **reterr) {
        CgroupLeaf l = CGROUP_LEAF_NONE;
        int r = 0;

        for (size_t i = 0; i < h->n && r == 0; i++) {
                _cleanup_free_ char *path = NULL;

                if (!(h->hierarchies[i].controllers & CGROUP_MEMORY))
                        continue;
                path = cgroup_run_path(h, i, name);
                if (!path)
                        r = error_set(reterr, ENOMEM, "cannot create a control group");
                else
                        r = i == 0 ? cgroup_open_leaf_v2(path, leaf, owner, &l, reterr)
                                   : cgroup_open_leaf_v1(path, leaf, owner, &l, reterr);
        }
        if (r < 0) {
                cgroup_leaf_done(&l);
                return r;
        }
        *ret_leaf = l;
        return 0;
}

void cgroup_leaf_done(CgroupLeaf *l) {
        int *const fds[] = {&l->dir_fd,  &l->tasks_fd, &l->events_fd,
                            &l->peak_fd, &l->pids_fd,  &l->oom_fd};

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                *fds[i] = fd_close(*fds[i]);
}

/* ---- numbers ------------------------------------------------------------------------------------
 */

/* A whole file, from its start. Return: bytes, with a NUL behind them. */
static ssize_t cgroup_read(int fd, char *text, size_t size) {
        ssize_t n = fd < 0 ? -1 : pread(fd, text, size - 1, 0);

        text[n > 0 ? n : 0] = 0;
        return n;
}

uint64_t cgroup_counter(int fd, const char *key) {
        char text[1024];

        cgroup_read(fd, text, sizeof text);
        for (const char *p = text; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
                if (strncmp(p, key, strlen(key)) == 0 && p[strlen(key)] == ' ')
                        return strtoull(p + strlen(key) + 1, NULL, 10);
        return 0;
}

uint64_t cgroup_number(int fd) {
        char text[32];

        cgroup_read(fd, text, sizeof text);
        return strtoull(text, NULL, 10);
}

uint64_t cgroup_cpu_us(const CgroupOpen *o) {
        uint64_t us = cgroup_counter(o->cpu_fd, "usage_usec");

        return us ? us : cgroup_number(o->cpu_fd) / 1000; /* cpuacct.usage counts nanoseconds */
}

/* "8:0 rbytes=1 wbytes=2 ..." a line in cgroup2, "8:0 Read 1" a line in v1. */
static uint64_t cgroup_sum(const char *text, const char *key) {
        uint64_t sum = 0;

        for (const char *p = strstr(text, key); p; p = strstr(p + 1, key))
                sum += strtoull(p + strlen(key), NULL, 10);
        return sum;
}

void cgroup_io(const CgroupOpen *o, uint64_t *ret_read_bytes, uint64_t *ret_written_bytes) {
        char text[4096];

        cgroup_read(o->io_fd, text, sizeof text);
        *ret_read_bytes = cgroup_sum(text, " rbytes=") + cgroup_sum(text, " Read ");
        *ret_written_bytes = cgroup_sum(text, " wbytes=") + cgroup_sum(text, " Write ");
}
