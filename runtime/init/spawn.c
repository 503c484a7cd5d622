/*
 * From a request to a confined process
 *
 * Between fork and exec each step either holds or ends the child; a socket that exec closes carries
 * the step's name and errno back, so "it started" means that everything before exec was done. Over
 * the same socket comes the listener of the child's filter: from the filter on, a denied call waits
 * until the shim has that, so the child makes none (syscall_required, in policy/).
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
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "init/init.h"
#include "kernel/capability.h"
#include "kernel/landlock.h"
#include "kernel/seccomp.h"

typedef struct SpawnPlan {
        const Carrel__V1__InitConfigure *config;
        const PlanProcess *command;
        int fds[INIT_STDIO];
        bool terminal; /* fds are all its slave */
        int group_fd;  /* of cgroup2, to be cloned into, or -EBADF */
        int tasks_fd;  /* of v1, to be entered, or -EBADF */
        int report_fd; /* the child's end; -EBADF: nobody listens to its filter */
} SpawnPlan;

/* From the child: its filter's listener (beside it, code 0), or why it ends. */
typedef struct SpawnReport {
        int code;
        char step[24];
} SpawnReport;

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
        if (init_is_alone())
                return 0; /* as whom, it is already; groups cannot be left (user_namespaces(7)) */
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

static int spawn_step_landlock(const SpawnPlan *p) {
        if (p->config->n_landlock_writable == 0)
                return 0;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return landlock_allow_writes(p->config->landlock_writable, p->config->n_landlock_writable,
                                     NULL);
}

static int spawn_report(int report_fd, const SpawnReport *report, int listener) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {.header = {.cmsg_level = SOL_SOCKET,
                                .cmsg_type = SCM_RIGHTS,
                                .cmsg_len = CMSG_LEN(sizeof(int))}};
        struct iovec data = {.iov_base = (void *)(uintptr_t)report, .iov_len = sizeof *report};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

        if (listener >= 0) {
                memcpy(CMSG_DATA(&control.header), &listener, sizeof listener);
                message.msg_control = &control;
                message.msg_controllen = sizeof control.space;
        }
        return sendmsg(report_fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The last step: what follows is under the filter, and may not wait for an answer. */
static int spawn_step_filter(const SpawnPlan *p) {
        static const SpawnReport loaded;
        _cleanup_close_ int listener = -EBADF;
        int r;

        if (p->report_fd < 0)
                return seccomp_filter_load(p->config->seccomp.data, p->config->seccomp.len, NULL);
        r = seccomp_filter_load_listener(p->config->seccomp.data, p->config->seccomp.len, &listener,
                                         NULL);

        return r < 0 || listener < 0 ? r : spawn_report(p->report_fd, &loaded, listener);
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
        {"landlock", spawn_step_landlock},
        {"filter", spawn_step_filter},
};

static int spawn_confine(const SpawnPlan *p, const char **ret_step) {
        for (size_t i = 0; i < ELEMENTSOF(spawn_steps); i++) {
                int r = spawn_steps[i].run(p);

                if (r < 0) {
                        *ret_step = spawn_steps[i].name;
                        return r;
                }
        }
        return 0;
}

int init_confine_probe(const Init *in, const char **ret_step) {
        char directory[] = "/";
        PlanProcess command = CARREL__V1__PLAN_PROCESS__INIT;
        const SpawnPlan p = {
                .config = in->config,
                .command = &command,
                .fds = {0, 1, 2},
                .group_fd = -EBADF,
                .tasks_fd = -EBADF,
                .report_fd = -EBADF,
        };

        command.working_directory = directory;
        return spawn_confine(&p, ret_step);
}

static _Noreturn void spawn_fail(const SpawnPlan *p, const char *step, int code) {
        SpawnReport f = {.code = code};

        snprintf(f.step, sizeof f.step, "%s", step);
        (void)spawn_report(p->report_fd, &f, -EBADF);
        _exit(127);
}

static char **spawn_vector(char *const *items, size_t n) {
        char **v = calloc(n + 1, sizeof *v);

        if (v)
                for (size_t i = 0; i < n; i++)
                        v[i] = items[i];
        return v;
}

static _Noreturn void spawn_child(const SpawnPlan *p, char **argv, char **envp) {
        const char *step = "";
        int r = spawn_confine(p, &step);

        if (r < 0)
                spawn_fail(p, step, -r);
        /* Everything above stderr closes with exec; the socket tells why, should there be none. */
        if (syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
                spawn_fail(p, "descriptors", errno);
        environ = envp; /* where execvp() finds PATH */
        execvp(argv[0], argv);
        spawn_fail(p, "exec", errno);
}

static int spawn_explain(const SpawnReport *f, const PlanProcess *command, Error **reterr) {
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

/* The child's next message. Return: 1; 0 where it has executed the program, or was killed (its exit
 * tells); -errno. */
static int spawn_receive(int fd, SpawnReport *ret_report, int *ret_listener) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec data = {.iov_base = ret_report, .iov_len = sizeof *ret_report};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control.space};
        struct cmsghdr *c;
        ssize_t n;

        do
                n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
        if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
                memcpy(ret_listener, CMSG_DATA(c), sizeof *ret_listener);
        ret_report->step[sizeof ret_report->step - 1] = 0;
        return n > 0;
}

/* Until exec has closed the socket. */
static int
spawn_follow(int fd, const PlanProcess *command, pid_t pid, int *ret_listener, Error **reterr) {
        _cleanup_close_ int listener = -EBADF;
        SpawnReport report = {0};
        int r;

        do
                r = spawn_receive(fd, &report, &listener);
        while (r > 0 && report.code == 0);
        if (r == 0) {
                *ret_listener = TAKE_FD(listener);
                return 0;
        }
        (void)kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return r > 0 ? spawn_explain(&report, command, reterr)
                     : error_set(reterr, -r, "cannot start '%s'", command->argv[0]);
}

static int spawn_fork(SpawnPlan *p, pid_t *ret_pid, int *ret_listener, Error **reterr) {
        _cleanup_free_ char **argv = spawn_vector(p->command->argv, p->command->n_argv),
                            **envp = spawn_vector(p->command->environment,
                                                  p->command->n_environment);
        _cleanup_close_ int reading = -EBADF, writing = -EBADF;
        int ends[2];
        pid_t pid;

        if (!argv || !envp || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return error_set(reterr, argv && envp ? errno : ENOMEM, "cannot start '%s'",
                                 p->command->argv[0]);
        reading = ends[0];
        p->report_fd = writing = ends[1];
        pid = spawn_clone(p->group_fd);
        if (pid < 0) {
                int r = error_set(reterr, errno, "cannot start '%s'", p->command->argv[0]);

                return error_hint(
                        reterr, r,
                        "the workspace may be at its limit of processes: raise 'resources.pids'");
        }
        if (pid == 0)
                spawn_child(p, argv, envp);
        writing = fd_close(writing);
        *ret_pid = pid;
        return spawn_follow(reading, p->command, pid, ret_listener, reterr);
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
               int *ret_listener,
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
        r = spawn_fork(&p, ret_pid, ret_listener, reterr);
        if (r == 0)
                *ret_terminal = TAKE_FD(master);
        return r;
}
