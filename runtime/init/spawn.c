/*
 * From a request to a confined process
 *
 * Between fork and exec each step either holds or ends the child; a pipe that exec closes carries
 * the step's name and errno back, so "it started" means that everything before exec was done.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "init/init.h"
#include "kernel/capability.h"
#include "kernel/seccomp.h"

typedef struct SpawnPlan {
        const Carrel__V1__InitConfigure *config;
        const PlanProcess *command;
        int fds[INIT_STDIO];
        bool terminal; /* fds are all its slave */
        int group_fd;  /* of cgroup2, to be cloned into, or -EBADF */
        int tasks_fd;  /* of v1, to be entered, or -EBADF */
} SpawnPlan;

typedef struct SpawnFailure {
        int code;
        char step[24];
} SpawnFailure;

/* What our ancestors ignore is none of the harness's business; exec would keep it (execve(2)). */
static void spawn_default_signals(void) {
        static const struct {
                void (*handler)(int);
                unsigned long flags;
                void (*restorer)(void);
                uint64_t mask;
        } by_default; /* the kernel's struct: libc's signal() refuses 32 and 33, which posix_spawn()
                         ignores */

        for (int n = 1; n <= 64; n++)
                (void)syscall(SYS_rt_sigaction, n, &by_default, NULL, sizeof by_default.mask);
}

static int spawn_step_session(const SpawnPlan *p) {
        sigset_t none;

        spawn_default_signals();
        sigemptyset(&none);
        if (sigprocmask(SIG_SETMASK, &none, NULL) < 0 || setsid() < 0)
                return -errno;
        if (p->terminal && ioctl(p->fds[0], TIOCSCTTY, 0) < 0)
                return -errno;
        return 0;
}

static int spawn_step_group(const SpawnPlan *p) {
        return p->tasks_fd >= 0 && write(p->tasks_fd, "0", 1) < 0 ? -errno : 0;
}

static int spawn_step_descriptors(const SpawnPlan *p) {
        /* Never 0 to 2 here: those are init's /dev/null. */
        for (int i = 0; i < INIT_STDIO; i++)
                if (dup2(p->fds[i], i) < 0)
                        return -errno;
        return 0;
}

static int spawn_step_limits(const SpawnPlan *p) {
        for (size_t i = 0; i < p->config->n_rlimits; i++) {
                const Carrel__V1__PlanRlimit *want = p->config->rlimits[i];
                struct rlimit now, set;

                if (getrlimit((int)want->resource, &now) < 0)
                        return -errno;
                /* A limit is never raised above what this host gave to carrel. */
                set.rlim_max = MIN_OF(want->hard, now.rlim_max);
                set.rlim_cur = MIN_OF(want->soft, set.rlim_max);
                if (setrlimit((int)want->resource, &set) < 0)
                        return -errno;
        }
        /* Where memory runs out, the harness goes before init does; best effort. */
        (void)file_write_at(AT_FDCWD, "/proc/self/oom_score_adj", "500", NULL);
        return 0;
}

static int spawn_step_identity(const SpawnPlan *p) {
        if (setgroups(0, NULL) < 0 ||
            setresgid(p->config->gid, p->config->gid, p->config->gid) < 0 ||
            setresuid(p->config->uid, p->config->uid, p->config->uid) < 0)
                return -errno;
        return 0;
}

static int spawn_step_capabilities(const SpawnPlan *p) {
        return capability_drop_all(NULL);
}

static int spawn_step_directory(const SpawnPlan *p) {
        return chdir(p->command->working_directory) < 0 ? -errno : 0;
}

static int spawn_step_filter(const SpawnPlan *p) {
        return seccomp_filter_load(p->config->seccomp.data, p->config->seccomp.len, NULL);
}

static const struct {
        const char *name;
        int (*run)(const SpawnPlan *p);
} spawn_steps[] = {
        {"group", spawn_step_group},
        {"session", spawn_step_session},
        {"descriptors", spawn_step_descriptors},
        {"limits", spawn_step_limits},
        {"identity", spawn_step_identity},
        {"capabilities", spawn_step_capabilities},
        {"directory", spawn_step_directory},
        {"filter", spawn_step_filter},
};

static _Noreturn void spawn_fail(int pipe_fd, const char *step, int code) {
        SpawnFailure f = {.code = code};

        snprintf(f.step, sizeof f.step, "%s", step);
        (void)fd_write_all(pipe_fd, &f, sizeof f);
        _exit(127);
}

static char **spawn_vector(char *const *items, size_t n) {
        char **v = calloc(n + 1, sizeof *v);

        if (v)
                for (size_t i = 0; i < n; i++)
                        v[i] = items[i];
        return v;
}

static _Noreturn void spawn_child(const SpawnPlan *p, char **argv, char **envp, int pipe_fd) {
        for (size_t i = 0; i < ELEMENTSOF(spawn_steps); i++) {
                int r = spawn_steps[i].run(p);

                if (r < 0)
                        spawn_fail(pipe_fd, spawn_steps[i].name, -r);
        }
        /* Everything above stderr closes with exec; the pipe tells why, should there be none. */
        if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                spawn_fail(pipe_fd, "descriptors", errno);
        environ = envp; /* where execvp() finds PATH */
        execvp(argv[0], argv);
        spawn_fail(pipe_fd, "exec", errno);
}

static int spawn_explain(const SpawnFailure *f, const PlanProcess *command, Error **reterr) {
        int r;

        if (strcmp(f->step, "exec") == 0) {
                r = error_set(reterr, f->code, "cannot execute '%s'", command->argv[0]);
                return error_hint(reterr, r,
                                  f->code == ENOENT
                                          ? "is it in the image, and on the workspace's PATH?"
                                          : "is it an executable file for this machine?");
        }
        if (strcmp(f->step, "directory") == 0)
                return error_set(reterr, f->code, "cannot enter the working directory '%s'",
                                 command->working_directory);
        return error_set(reterr, f->code, "cannot confine '%s' (%s)", command->argv[0], f->step);
}

/* fork(), into a control group where there is one to be born in. */
static pid_t spawn_clone(int group_fd) {
        struct clone_args args = {
                .flags = group_fd >= 0 ? CLONE_INTO_CGROUP : 0,
                .exit_signal = SIGCHLD,
                .cgroup = group_fd >= 0 ? (uint64_t)group_fd : 0,
        };

        return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static int spawn_fork(const SpawnPlan *p, pid_t *ret_pid, Error **reterr) {
        _cleanup_free_ char **argv = spawn_vector(p->command->argv, p->command->n_argv),
                            **envp = spawn_vector(p->command->environment,
                                                  p->command->n_environment);
        _cleanup_close_ int reading = -EBADF, writing = -EBADF;
        SpawnFailure failure;
        int ends[2];
        ssize_t n;
        pid_t pid;

        if (!argv || !envp || pipe2(ends, O_CLOEXEC) < 0)
                return error_set(reterr, argv && envp ? errno : ENOMEM, "cannot start '%s'",
                                 p->command->argv[0]);
        reading = ends[0];
        writing = ends[1];
        pid = spawn_clone(p->group_fd);
        if (pid < 0) {
                int r = error_set(reterr, errno, "cannot start '%s'", p->command->argv[0]);

                return error_hint(
                        reterr, r,
                        "the workspace may be at its limit of processes: raise 'resources.pids'");
        }
        if (pid == 0)
                spawn_child(p, argv, envp, writing);
        writing = fd_close(writing);
        n = fd_read_all(reading, &failure, sizeof failure);
        if (n == 0) {
                *ret_pid = pid;
                return 0;
        }
        waitpid(pid, NULL, 0);
        if (n != sizeof failure)
                return error_refuse(reterr, EPROTO, NULL,
                                    "cannot start '%s': it was killed before it ran",
                                    p->command->argv[0]);
        failure.step[sizeof failure.step - 1] = 0;
        return spawn_explain(&failure, p->command, reterr);
}

/* A pseudo-terminal of the workspace's own, opened as the harness's user so that it belongs to it.
 */
static int spawn_open_terminal(const Carrel__V1__InitConfigure *config,
                               const WindowSize *size,
                               int *ret_slave,
                               Error **reterr) {
        struct winsize window = {.ws_row = (unsigned short)MIN_OF(size->rows, 0xffffu),
                                 .ws_col = (unsigned short)MIN_OF(size->columns, 0xffffu)};
        _cleanup_close_ int master = -EBADF;
        int unlock = 0, slave;

        (void)syscall(SYS_setfsuid, config->uid);
        master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        (void)syscall(SYS_setfsuid, 0);
        if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
            ioctl(master, TIOCSWINSZ, &window) < 0)
                return error_set(reterr, errno, "cannot open a terminal");
        slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (slave < 0)
                return error_set(reterr, errno, "cannot open a terminal");
        *ret_slave = slave;
        return TAKE_FD(master);
}

int init_spawn(Init *in,
               const Carrel__V1__InitSpawn *request,
               const int fds[static INIT_MAX_FDS],
               pid_t *ret_pid,
               int *ret_terminal,
               Error **reterr) {
        _cleanup_close_ int master = -EBADF, slave = -EBADF;
        SpawnPlan p = {.config = in->config,
                       .command = request->command,
                       .terminal = request->terminal != NULL,
                       .group_fd = -EBADF,
                       .tasks_fd = -EBADF};
        size_t next = p.terminal ? 0 : INIT_STDIO;
        int r;

        if (!p.command || p.command->n_argv == 0)
                return error_refuse(reterr, EINVAL, NULL,
                                    "cannot start a process without a command");
        if (p.terminal) {
                master = spawn_open_terminal(in->config, request->terminal, &slave, reterr);
                if (master < 0)
                        return master;
        }
        if (request->group)
                p.group_fd = fds[next++];
        if (request->tasks)
                p.tasks_fd = fds[next++];
        for (int i = 0; i < INIT_STDIO; i++) {
                p.fds[i] = p.terminal ? slave : fds[i];
                if (p.fds[i] < 0)
                        return error_refuse(reterr, EINVAL, NULL,
                                            "cannot start '%s': descriptor %d is missing",
                                            p.command->argv[0], i);
        }
        r = spawn_fork(&p, ret_pid, reterr);
        if (r == 0)
                *ret_terminal = TAKE_FD(master);
        return r;
}
