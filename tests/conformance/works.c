/*
 * What an ordinary job does: processes, threads, memory, waiting, sockets
 *
 * A wall that stands in the way of work is taken down by its users. What 'strict' takes away is
 * marked, and refused there.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"

/* What a step gave back; the first that fails ends the check. */
#define WORKS(what, r)                                                                             \
        do {                                                                                       \
                long works_r = (long)(r);                                                          \
                if (works_r < 0)                                                                   \
                        return verdict_worked((what), works_r);                                    \
        } while (0)

/* ---- processes ---- */

static Verdict works_fork(const Check *c) {
        pid_t pid = fork();

        if (pid == 0)
                _exit(42);
        WORKS("fork", pid);
        return verdict_expect(probe_await(pid) == 42, "its status", "another");
}

static Verdict works_vfork(const Check *c) {
        char *const argv[] = {(char[]){"true"}, NULL};
        pid_t pid;
        int code = posix_spawnp(&pid, "true", NULL, NULL, argv, environ);

        errno = code;
        WORKS("posix_spawn", code ? -1 : 0);
        return verdict_expect(probe_await(pid) == 0, "status 0", "another");
}

static Verdict works_exec(const Check *c) {
        char text[64] = "";
        int status = probe_shell("echo ran; exit 7", text, sizeof text);

        return verdict_expect(status == 7 && strcmp(text, "ran") == 0, "a shell", "%d, '%s'",
                              status, text);
}

static void *works_thread(void *argument) {
        __atomic_add_fetch((int *)argument, 1, __ATOMIC_SEQ_CST);
        return NULL;
}

static Verdict works_threads(const Check *c) {
        pthread_t threads[8];
        int n = 0;

        for (size_t i = 0; i < ELEMENTSOF(threads); i++) {
                errno = pthread_create(&threads[i], NULL, works_thread, &n);
                WORKS("pthread_create", errno ? -1 : 0);
        }
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                pthread_join(threads[i], NULL);
        return verdict_expect(n == 8, "8 threads", "%d", n);
}

static Verdict works_pidfd(const Check *c) {
        pid_t pid = probe_sleeper();
        int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        siginfo_t info = {0};

        WORKS("pidfd_open", fd);
        WORKS("pidfd_send_signal", syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
        WORKS("waitid", waitid(P_PIDFD, (id_t)fd, &info, WEXITED));
        return verdict_expect(info.si_pid == pid, "the child", "%d", info.si_pid);
}

static Verdict works_groups(const Check *c) {
        pid_t pid = probe_sleeper();

        WORKS("setpgid", setpgid(pid, pid));
        WORKS("kill of a group", kill(-pid, SIGTERM));
        return verdict_expect(probe_await(pid) == 128 + SIGTERM, "its end by SIGTERM", "another");
}

static Verdict works_job_control(const Check *c) {
        pid_t pid = probe_sleeper();
        int status = 0;

        kill(pid, SIGSTOP);
        WORKS("waitpid", waitpid(pid, &status, WUNTRACED));
        probe_end(pid);
        return verdict_expect(WIFSTOPPED(status), "a stopped child", "status %#x",
                              (unsigned)status);
}

static Verdict works_prctl(const Check *c) {
        WORKS("PR_SET_NAME", prctl(PR_SET_NAME, "works"));
        WORKS("PR_SET_PDEATHSIG", prctl(PR_SET_PDEATHSIG, SIGKILL));
        WORKS("PR_SET_CHILD_SUBREAPER", prctl(PR_SET_CHILD_SUBREAPER, 1));
        return verdict_worked("PR_SET_DUMPABLE", prctl(PR_SET_DUMPABLE, 1));
}

static Verdict works_be_nice(const Check *c) {
        return verdict_worked("setpriority", setpriority(PRIO_PROCESS, 0, 5));
}

static Verdict works_affinity(const Check *c) {
        cpu_set_t set;

        WORKS("sched_getaffinity", sched_getaffinity(0, sizeof set, &set));
        return verdict_worked("sched_setaffinity", sched_setaffinity(0, sizeof set, &set));
}

static Verdict works_batch(const Check *c) {
        const struct sched_param p = {0};

        return verdict_worked("SCHED_BATCH", sched_setscheduler(0, SCHED_BATCH, &p));
}

static Verdict works_lower_limit(const Check *c) {
        const struct rlimit less = {64, 64};

        return verdict_worked("setrlimit", setrlimit(RLIMIT_NOFILE, &less));
}

static Verdict works_raise_soft_limit(const Check *c) {
        struct rlimit now;

        WORKS("getrlimit", getrlimit(RLIMIT_NOFILE, &now));
        now.rlim_cur = now.rlim_max;
        return verdict_worked("setrlimit", setrlimit(RLIMIT_NOFILE, &now));
}

static Verdict works_personality(const Check *c) {
        return verdict_worked("personality", personality(0xffffffff));
}

/* ---- debugging one's own ---- */

/* A child that asked to be traced, stopped at a signal of its own. */
static pid_t works_tracee(void) {
        pid_t pid = fork();

        if (pid == 0) {
                if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
                        _exit(errno);
                raise(SIGSTOP);
                _exit(0);
        }
        return pid;
}

static Verdict works_trace_child(const Check *c) {
        struct user_regs_struct registers;
        pid_t pid = works_tracee();
        int status = 0;
        long r;

        WORKS("waitpid", waitpid(pid, &status, 0));
        errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
        WORKS("PTRACE_TRACEME", WIFSTOPPED(status) ? 0 : -1);
        r = ptrace(PTRACE_GETREGS, pid, NULL, &registers);
        probe_end(pid);
        return verdict_worked("PTRACE_GETREGS", r);
}

static Verdict works_seize_child(const Check *c) {
        pid_t pid = probe_sleeper();
        long r = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
        int code = errno;

        probe_end(pid);
        errno = code;
        return verdict_worked("PTRACE_SEIZE", r);
}

static Verdict works_read_child(const Check *c) {
        static volatile long value = 42;
        long copy = 0;
        pid_t pid = probe_sleeper();
        struct iovec here = {&copy, sizeof copy}, there = {(void *)(uintptr_t)&value, sizeof value};
        ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
        int code = errno;

        probe_end(pid);
        errno = code;
        WORKS("process_vm_readv", n);
        return verdict_expect(copy == 42, "what stands there", "%ld", copy);
}

/* ---- confining oneself further ---- */

static Verdict works_filter(const Check *c) {
        struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        struct sock_fprog program = {.len = 1, .filter = all};

        WORKS("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        return verdict_worked("seccomp",
                              syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

static Verdict works_landlock(const Check *c) {
        const struct landlock_ruleset_attr attributes = {.handled_access_fs =
                                                                 LANDLOCK_ACCESS_FS_MAKE_SOCK};
        int fd = (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);

        if (fd < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
                return verdict_skip("this kernel has no Landlock");
        WORKS("landlock_create_ruleset", fd);
        WORKS("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        return verdict_worked("landlock_restrict_self", syscall(SYS_landlock_restrict_self, fd, 0));
}

/* ---- memory ---- */

/* As a just-in-time compiler: write, protect, run. */
static Verdict works_jit(const Check *c) {
        static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
        unsigned char *at =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int (*function)(void);

        WORKS("mmap", at == MAP_FAILED ? -1 : 0);
        memcpy(at, code, sizeof code);
        WORKS("mprotect", mprotect(at, 4096, PROT_READ | PROT_EXEC));
        memcpy(&function, &at, sizeof at);
        return verdict_expect(function() == 42, "42", "another number");
}

static Verdict works_write_and_exec(const Check *c) {
        void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);

        return verdict_worked("mmap", at == MAP_FAILED ? -1 : 0);
}

static Verdict works_reserve(const Check *c) {
        void *at = mmap(NULL, 1UL << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                        0);

        return verdict_worked("reserving a TiB", at == MAP_FAILED ? -1 : 0);
}

static Verdict works_advise(const Check *c) {
        void *at = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        WORKS("MADV_DONTNEED", madvise(at, 8 * MIB, MADV_DONTNEED));
        WORKS("mremap", mremap(at, 8 * MIB, 4 * MIB, 0) == MAP_FAILED ? -1 : 0);
        return verdict_worked("mlock", mlock(at, 4096));
}

static Verdict works_memfd_exec(const Check *c) {
        int fd = (int)syscall(SYS_memfd_create, "program", 1), from = open("/bin/true", O_RDONLY);
        pid_t pid;

        WORKS("memfd_create", fd);
        while (sendfile(fd, from, NULL, MIB) > 0)
                ;
        pid = fork();
        if (pid == 0) {
                char *const argv[] = {(char[]){"true"}, NULL};

                (void)syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
                _exit(errno);
        }
        errno = probe_await(pid);
        return verdict_worked("execveat", errno ? -1 : 0);
}

static Verdict works_membarrier(const Check *c) {
        return verdict_worked("membarrier", syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0));
}

static Verdict works_numa(const Check *c) {
        int mode;

        return verdict_worked("get_mempolicy", syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0));
}

/* ---- waiting ---- */

static Verdict works_epoll(const Check *c) {
        struct epoll_event event = {.events = EPOLLIN}, got;
        int fd = epoll_create1(EPOLL_CLOEXEC), counter = eventfd(1, EFD_CLOEXEC);

        WORKS("epoll_ctl", epoll_ctl(fd, EPOLL_CTL_ADD, counter, &event));
        return verdict_expect(epoll_wait(fd, &got, 1, 1000) == 1, "an event", "none");
}

static Verdict works_signalfd(const Check *c) {
        struct signalfd_siginfo info = {0};
        sigset_t set;
        int fd;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        WORKS("signalfd", fd);
        WORKS("sigqueue", sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 42}));
        WORKS("read", read(fd, &info, sizeof info));
        return verdict_expect(info.ssi_int == 42, "42", "%d", info.ssi_int);
}

static Verdict works_timerfd(const Check *c) {
        const struct itimerspec soon = {.it_value.tv_nsec = 1000000};
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        uint64_t n = 0;

        WORKS("timerfd_settime", timerfd_settime(fd, 0, &soon, NULL));
        return verdict_worked("read", read(fd, &n, sizeof n));
}

static Verdict works_timer(const Check *c) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
        const struct itimerspec soon = {.it_value.tv_nsec = 1000000};
        sigset_t set;
        timer_t timer;

        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, NULL);
        WORKS("timer_create", timer_create(CLOCK_MONOTONIC, &event, &timer));
        WORKS("timer_settime", timer_settime(timer, 0, &soon, NULL));
        return verdict_worked("sigwaitinfo", sigwaitinfo(&set, NULL));
}

static Verdict works_clocks(const Check *c) {
        const struct timespec moment = {.tv_nsec = 1000};
        struct timespec t;

        WORKS("CLOCK_REALTIME", clock_gettime(CLOCK_REALTIME, &t));
        WORKS("CLOCK_PROCESS_CPUTIME_ID", clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t));
        return verdict_worked("nanosleep", nanosleep(&moment, NULL));
}

static Verdict works_futex(const Check *c) {
        const struct timespec moment = {.tv_nsec = 1000000};
        uint32_t word = 0;
        long r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &moment, NULL, 0);

        return verdict_expect(r < 0 && errno == ETIMEDOUT, "ETIMEDOUT", "%s", errno_name(errno));
}

static Verdict works_random(const Check *c) {
        char bytes[32];

        return verdict_worked("getrandom", getrandom(bytes, sizeof bytes, 0));
}

/* ---- sockets ---- */

/* Connect a stream socket to @address, say a word, and hear it. */
static Verdict works_stream(int family, struct sockaddr *address, socklen_t size) {
        int server = socket(family, SOCK_STREAM, 0), client = socket(family, SOCK_STREAM, 0), peer;
        char text[8] = "";

        WORKS("bind", bind(server, address, size));
        WORKS("listen", listen(server, 1));
        if (family != AF_UNIX)
                WORKS("getsockname", getsockname(server, address, &size));
        WORKS("connect", connect(client, address, size));
        peer = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        WORKS("accept", peer);
        WORKS("send", send(client, "word", 4, MSG_NOSIGNAL));
        WORKS("recv", recv(peer, text, sizeof text, 0));
        return verdict_expect(strcmp(text, "word") == 0, "the word", "'%s'", text);
}

static Verdict works_tcp(const Check *c) {
        struct sockaddr_in address = {.sin_family = AF_INET};

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return works_stream(AF_INET, (struct sockaddr *)&address, sizeof address);
}

static Verdict works_tcp6(const Check *c) {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        int fd = socket(AF_INET6, SOCK_STREAM, 0);

        if (fd < 0 && errno == EAFNOSUPPORT)
                return verdict_skip("this kernel has no IPv6");
        return works_stream(AF_INET6, (struct sockaddr *)&address, sizeof address);
}

static Verdict works_udp(const Check *c) {
        struct sockaddr_in address = {.sin_family = AF_INET};
        socklen_t size = sizeof address;
        int fd = socket(AF_INET, SOCK_DGRAM, 0);
        char text[8] = "";

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        WORKS("bind", bind(fd, (struct sockaddr *)&address, size));
        WORKS("getsockname", getsockname(fd, (struct sockaddr *)&address, &size));
        WORKS("sendto", sendto(fd, "word", 4, 0, (struct sockaddr *)&address, size));
        return verdict_worked("recv", recv(fd, text, sizeof text, 0));
}

static Verdict works_unix(const Check *c) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        snprintf(address.sun_path, sizeof address.sun_path, "%s", probe_path("socket"));
        return works_stream(AF_UNIX, (struct sockaddr *)&address, sizeof address);
}

static Verdict works_abstract(const Check *c) {
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0carrel-conformance"};

        return works_stream(AF_UNIX, (struct sockaddr *)&address, sizeof address);
}

static Verdict works_pass_descriptor(const Check *c) {
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct iovec data = {.iov_base = (char[]){"x"}, .iov_len = 1};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *h = CMSG_FIRSTHDR(&message);
        int ends[2];

        WORKS("socketpair", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &ends[0], sizeof(int));
        WORKS("sendmsg", sendmsg(ends[0], &message, 0));
        WORKS("recvmsg", recvmsg(ends[1], &message, 0));
        return verdict_expect(CMSG_FIRSTHDR(&message) != NULL, "a descriptor", "none");
}

static Verdict works_interfaces(const Check *c) {
        struct ifaddrs *all = NULL;
        int r = getifaddrs(&all);

        return verdict_worked("getifaddrs", r);
}

/* ---- System V and POSIX ---- */

static Verdict works_segment(const Check *c) {
        int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
        void *at;

        WORKS("shmget", id);
        at = shmat(id, NULL, 0);
        (void)shmctl(id, IPC_RMID, NULL);
        return verdict_worked("shmat", at == (void *)-1 ? -1 : 0);
}

static Verdict works_semaphore(const Check *c) {
        int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);

        WORKS("semget", id);
        return verdict_worked("IPC_RMID", semctl(id, 0, IPC_RMID));
}

static Verdict works_message_queue(const Check *c) {
        int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);

        WORKS("msgget", id);
        return verdict_worked("IPC_RMID", msgctl(id, IPC_RMID, NULL));
}

static Verdict works_posix_queue(const Check *c) {
        mqd_t queue = mq_open("/carrel-conformance", O_RDWR | O_CREAT, 0600, NULL);

        WORKS("mq_open", queue);
        return verdict_worked("mq_unlink", mq_unlink("/carrel-conformance"));
}

static Verdict works_posix_semaphore(const Check *c) {
        sem_t *s = sem_open("/carrel-conformance", O_CREAT, 0600, 1);

        WORKS("sem_open", s == SEM_FAILED ? -1 : 0);
        WORKS("sem_wait", sem_wait(s));
        return verdict_worked("sem_unlink", sem_unlink("/carrel-conformance"));
}

static Verdict works_aio(const Check *c) {
        aio_context_t context = 0;

        WORKS("io_setup", syscall(SYS_io_setup, 8, &context));
        return verdict_worked("io_destroy", syscall(SYS_io_destroy, context));
}

#define NOT_SMALL(name_, function)                                                                 \
        { .name = (name_), .run = (function), .except = TRAIT_SMALL }

static const Check checks[] = {
        {"fork", works_fork},
        {"posix_spawn", works_vfork},
        {"exec", works_exec},
        {"threads", works_threads},
        {"pidfd", works_pidfd},
        {"process_groups", works_groups},
        {"job_control", works_job_control},
        {"prctl", works_prctl},
        {"nice", works_be_nice},
        {"affinity", works_affinity},
        NOT_SMALL("batch", works_batch),
        {"lower_limit", works_lower_limit},
        {"raise_soft_limit", works_raise_soft_limit},
        NOT_SMALL("personality", works_personality),
        NOT_SMALL("trace_child", works_trace_child),
        NOT_SMALL("seize_child", works_seize_child),
        NOT_SMALL("read_child", works_read_child),
        {"filter", works_filter},
        {"landlock", works_landlock},
        {"jit", works_jit},
        {"write_and_exec", works_write_and_exec},
        {"reserve", works_reserve},
        {"advise", works_advise},
        {"memfd_exec", works_memfd_exec},
        {"membarrier", works_membarrier},
        NOT_SMALL("numa", works_numa),
        {"epoll", works_epoll},
        {"signalfd", works_signalfd},
        {"timerfd", works_timerfd},
        {"timer", works_timer},
        {"clocks", works_clocks},
        {"futex", works_futex},
        {"random", works_random},
        {"tcp", works_tcp},
        {"tcp_by_ipv6", works_tcp6},
        {"udp", works_udp},
        {"unix", works_unix},
        {"abstract", works_abstract},
        {"pass_descriptor", works_pass_descriptor},
        {"interfaces", works_interfaces},
        NOT_SMALL("sysv_segment", works_segment),
        NOT_SMALL("sysv_semaphore", works_semaphore),
        NOT_SMALL("sysv_queue", works_message_queue),
        NOT_SMALL("posix_queue", works_posix_queue),
        {"posix_semaphore", works_posix_semaphore},
        NOT_SMALL("aio", works_aio),
};

const Class class_works = CLASS("works", "what an ordinary job does", checks);
