/*
 * bomb KIND: uses up one thing that a host has only so much of, as fast as it can
 *
 * Runs inside a workspace, as tests/e2e/bombs.py and tests/vm/checks compile it there or before. A
 * bomb never ends by itself, unless the kernel lets it have no more: then it prints what it holds
 * and, having nothing left to do, waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK (64 * 1024)

static void hold(const char *what, long n) {
        printf("%ld %s, then: %s\n", n, what, strerror(errno));
        fflush(stdout);
        for (;;)
                pause();
}

/* ---- processes ---- */

/* Everybody forks, for ever; SIGTERM does not help. */
static void bomb_fork(void) {
        signal(SIGTERM, SIG_IGN);
        for (;;)
                (void)!fork();
}

static pthread_mutex_t closed = PTHREAD_MUTEX_INITIALIZER;

/* When all are there: busy ones would keep the last from being made. */
static void *spin(void *data) {
        pthread_mutex_lock(&closed);
        pthread_mutex_unlock(&closed);
        for (;;)
                ;
        return data;
}

static void bomb_threads(void) {
        pthread_attr_t small;
        pthread_t thread;
        long n = 0;

        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 16384);
        pthread_mutex_lock(&closed);
        while ((errno = pthread_create(&thread, &small, spin, NULL)) == 0)
                n++;
        pthread_mutex_unlock(&closed);
        hold("threads", n);
}

/* Processes that end at once: their parent reaps them. */
static void bomb_exits(void) {
        for (int i = 0; i < 8; i++)
                (void)!fork();
        for (;;) {
                pid_t pid = fork();

                if (pid == 0)
                        _exit(0);
                if (pid > 0)
                        waitpid(pid, NULL, 0);
        }
}

/* The same, but process 1 has to: their parent is gone, or (CLONE_PARENT) never was one. */
static void bomb_orphans(void) {
        for (int i = 0; i < 8; i++)
                (void)!fork();
        for (;;) {
                pid_t pid = fork();

                if (pid == 0) {
                        for (int i = 0; i < 16; i++)
                                if (fork() == 0)
                                        _exit(0);
                        _exit(0);
                }
                if (pid > 0)
                        waitpid(pid, NULL, 0);
        }
}

/* Dead, and nobody looks. */
static void bomb_zombies(void) {
        pid_t pid;
        long n = 0;

        while ((pid = fork()) >= 0) {
                if (pid == 0)
                        _exit(0);
                n++;
        }
        hold("zombies", n);
}

/* Signals for process 1, for everybody, and more than the own queue takes. */
static void bomb_signals(void) {
        union sigval value = {.sival_int = 1};
        sigset_t all;

        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (int i = 0; i < 5; i++)
                (void)!fork();
        for (;;) {
                for (int signal = 1; signal <= SIGRTMAX; signal++)
                        if (signal != SIGKILL && signal != SIGSTOP)
                                (void)kill(1, signal);
                (void)sigqueue(getpid(), SIGRTMIN + 1, value);
                (void)sigqueue(getppid(), SIGRTMIN + 2, value);
                (void)kill(-1, SIGUSR1);
        }
}

/* ---- memory ---- */

static void bomb_memory(void) {
        for (int i = 0; i < 2; i++)
                (void)!fork();
        for (;;) {
                char *p = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                               -1, 0);

                if (p != MAP_FAILED)
                        memset(p, 1, 16 << 20);
        }
}

/* ---- descriptors ---- */

static int no_memory_fd(void) {
        int fd = memfd_create("bomb", MFD_CLOEXEC);

        if (fd >= 0)
                (void)!ftruncate(fd, 1 << 20);
        return fd;
}

static int full_pipe(void) {
        static const char block[BLOCK];
        int ends[2];

        if (pipe2(ends, O_NONBLOCK) < 0)
                return -1;
        (void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while (write(ends[1], block, sizeof block) > 0)
                ;
        return ends[0];
}

static int watching_epoll(void) {
        struct epoll_event event = {.events = EPOLLIN};
        int fd = epoll_create1(0);

        for (int other = 3; fd >= 0 && other < fd; other++)
                (void)epoll_ctl(fd, EPOLL_CTL_ADD, other, &event);
        return fd;
}

static int watching_inotify(void) {
        static const char *const places[] = {"/",        "/usr", "/usr/bin",
                                             "/usr/lib", "/tmp", "/workspace"};
        int fd = inotify_init1(IN_NONBLOCK);

        for (size_t i = 0; fd >= 0 && i < sizeof places / sizeof *places; i++)
                (void)inotify_add_watch(fd, places[i], IN_ALL_EVENTS);
        return fd;
}

static int plain_eventfd(void) {
        return eventfd(1, 0);
}

/* Raised to the hard limit: as many of each as there may be, in several processes. */
static void bomb_descriptors(void) {
        static int (*const makers[])(void) = {watching_inotify, full_pipe, watching_epoll,
                                              no_memory_fd, plain_eventfd};
        const size_t n_makers = sizeof makers / sizeof *makers;
        struct rlimit limit;
        size_t failed = 0;
        long n = 0;

        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        for (int i = 0; i < 3; i++)
                (void)!fork();
        for (size_t i = 0; failed < n_makers; i++) {
                if (makers[i % n_makers]() >= 0) {
                        failed = 0;
                        n++;
                } else {
                        failed++;
                }
        }
        hold("descriptors", n);
}

static int send_descriptors(int to, const int *fds, size_t n) {
        char control[CMSG_SPACE(250 * sizeof *fds)] = {0}, byte = 0;
        struct iovec data = {&byte, 1};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = CMSG_SPACE(n * sizeof *fds)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n * sizeof *fds);
        memcpy(CMSG_DATA(c), fds, n * sizeof *fds);
        return sendmsg(to, &message, MSG_DONTWAIT) < 0 ? -1 : 0;
}

/* Descriptors that no process holds: in flight over sockets which are in flight themselves, in a
 * circle. */
static void bomb_flight(void) {
        long n = 0;

        for (int i = 0; i < 2; i++)
                (void)!fork();
        for (;;) {
                int ends[2], fds[250];

                if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends) < 0)
                        hold("descriptors in flight", n);
                for (size_t i = 0; i < 250; i++)
                        fds[i] = ends[i % 2];
                while (send_descriptors(ends[0], fds, 250) == 0)
                        n += 250;
                close(ends[0]);
                close(ends[1]);
                if (errno == ETOOMANYREFS)
                        sched_yield(); /* the kernel collects such circles */
        }
}

/* ---- output and files ---- */

static void bomb_log(void) {
        static char block[BLOCK];

        memset(block, 'x', sizeof block);
        for (size_t i = 99; i < sizeof block; i += 100)
                block[i] = '\n';
        for (;;)
                (void)!write(1, block, sizeof block);
}

/* Each byte from another stream than the one before. */
static void bomb_chatter(void) {
        for (;;)
                if (write(1, "o", 1) != 1 || write(2, "e", 1) != 1)
                        pause();
}

/* Large files, then many small ones, until there is no room; then it fails, as a build would. */
static void bomb_disk(void) {
        static const char block[BLOCK] = {1};
        char name[32];
        long n = 0;
        int fd = -1;

        for (;; n++) {
                snprintf(name, sizeof name, "f%ld", n);
                fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
                if (fd < 0)
                        break;
                for (int i = 0; i < 64; i++)
                        if (write(fd, block, sizeof block) < 0) {
                                fprintf(stderr, "%ld files, then: %s\n", n, strerror(errno));
                                exit(9);
                        }
                close(fd);
        }
        fprintf(stderr, "%ld files, then: %s\n", n, strerror(errno));
        exit(9);
}

/* ---- the run's own helper ---- */

static void guest(const char *const *words) {
        pid_t pid = fork();

        if (pid == 0) {
                int null = open("/dev/null", O_WRONLY);

                dup2(null, 1);
                dup2(null, 2);
                execvp("carrel-guest", (char **)words);
                _exit(127);
        }
        if (pid > 0)
                waitpid(pid, NULL, 0);
}

/* carrel-guest from eight processes at once, everything that it can ask for. */
static void bomb_guest(void) {
        static const char *const requests[][6] = {
                {"carrel-guest", "status", "--report", "still here"},
                {"carrel-guest", "feedback", "--all"},
                {"carrel-guest", "artifact", "publish", "payload"},
        };
        int fd = open("payload", O_WRONLY | O_CREAT, 0600);

        (void)!ftruncate(fd, 1 << 20);
        for (int i = 0; i < 3; i++)
                (void)!fork();
        for (size_t i = 0;; i++)
                guest(requests[i % 3]);
}

/* Requests whose answers nobody reads: feedback{all} in frames of proto/wire, over every connection
 * that it gets. */
static void bomb_deaf(void) {
        static const unsigned char request[] = {0, 0, 0, 2,    0,
                                                0, 0, 0, 0x1a, 0}; /* GuestRequest.status, empty */
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/run/carrel/guest.sock"};
        int fds[32];

        for (size_t i = 0; i < 32; i++) {
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
                (void)connect(fds[i], (struct sockaddr *)&address, sizeof address);
        }
        signal(SIGPIPE, SIG_IGN);
        for (size_t i = 0;; i++)
                (void)!write(fds[i % 32], request, sizeof request);
}

static const struct {
        const char *kind;
        void (*go)(void);
} bombs[] = {
        {"fork", bomb_fork},       {"threads", bomb_threads},
        {"exits", bomb_exits},     {"orphans", bomb_orphans},
        {"zombies", bomb_zombies}, {"signals", bomb_signals},
        {"memory", bomb_memory},   {"descriptors", bomb_descriptors},
        {"flight", bomb_flight},   {"log", bomb_log},
        {"chatter", bomb_chatter}, {"disk", bomb_disk},
        {"guest", bomb_guest},     {"deaf", bomb_deaf},
};

int main(int argc, char **argv) {
        for (size_t i = 0; argc == 2 && i < sizeof bombs / sizeof *bombs; i++)
                if (strcmp(argv[1], bombs[i].kind) == 0)
                        bombs[i].go();
        fprintf(stderr, "usage: bomb KIND\n");
        return 2;
}
