#include "shim/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "kernel/capability.h"
#include "kernel/seccomp.h"
#include "policy/syscalls.h"
#include "proto/wire/frame.h"
#include "shim/launch.h"

#define ZYGOTE_MAX_INIT (16 * MIB)
#define ZYGOTE_IDLE_MS  15 /* a short run is over by then */

static int zygote_prepare(const ZygoteSpec *spec, LaunchKit *ret_kit, Error **reterr) {
        _cleanup_free_ char *binary = NULL;
        size_t size;
        int r = file_read_at(AT_FDCWD, spec->init_path, ZYGOTE_MAX_INIT, &binary, &size, reterr);

        if (r < 0)
                return r;
        ret_kit->init_fd = fd_memfd_sealed("carrel-init", binary, size);
        if (ret_kit->init_fd < 0)
                return error_set(reterr, -ret_kit->init_fd, "cannot hold carrel-init in memory");
        ret_kit->guest_fd = open(spec->guest_path, O_PATH | O_CLOEXEC);
        if (ret_kit->guest_fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", spec->guest_path);
        ret_kit->layout = spec->layout;
        if (spec->cgroup)
                ret_kit->cgroup = *spec->cgroup; /* this process's copy, as all of its memory */
        else
                r = cgroup_host_open(&ret_kit->cgroup, reterr);
        if (r >= 0)
                r = netns_pool_init(&ret_kit->netns, reterr);
        return r < 0 ? r : confine_compile(&ret_kit->filter, reterr);
}

/* Nothing of the supervisor's, and no terminal, may reach a shim. Return: the socket's new number.
 */
static int zygote_clean_descriptors(int fd) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
                return -errno;
        if (fd != 3 && dup2(fd, 3) < 0)
                return -errno;
        if (fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || syscall(SYS_close_range, 4, ~0U, 0) < 0)
                return -errno;
        return 3;
}

static pid_t zygote_fork(int *ret_pidfd) {
        struct clone_args args = {
                .flags = CLONE_PIDFD,
                .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
                .exit_signal = SIGCHLD,
        };

        return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static int zygote_answer(int fd, int pidfd, const Error *error) {
        Carrel__V1__SpawnResponse response = CARREL__V1__SPAWN_RESPONSE__INIT;
        _cleanup_message_ ErrorMessage *message = error_to_message(error);

        response.error = message;
        return frame_send(fd, &response.base, &pidfd, pidfd < 0 ? 0 : 1, NULL);
}

/* One request. Return: 0; -ECONNRESET once the supervisor is gone. */
static int zygote_serve(int fd, LaunchKit *kit) {
        _cleanup_message_ SpawnRequest *request = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        _cleanup_error_ Error *error = NULL;
        int fds[FRAME_MAX_FDS];
        size_t n_fds = 0;
        pid_t pid;
        int r;

        r = frame_receive(fd, &carrel__v1__spawn_request__descriptor, FRAME_MAX_SIZE,
                          (void **)&request, fds, FRAME_MAX_FDS, NULL);
        if (r < 0)
                return r;
        while (n_fds < FRAME_MAX_FDS && fds[n_fds] >= 0)
                n_fds++;
        pid = zygote_fork(&pidfd);
        if (pid == 0) {
                close(fd);
                launch_shim(kit, TAKE_PTR(request), fds, n_fds);
        }
        if (pid < 0)
                error_set(&error, errno, "cannot fork a shim");
        fd_close(netns_pool_take(&kit->netns)); /* the shim has it now */
        fd_close_many(fds, n_fds);
        for (size_t i = 0; i < request->n_grants; i++)
                explicit_bzero(request->grants[i]->value.data, request->grants[i]->value.len);
        return zygote_answer(fd, pidfd, error);
}

/*
 * Network namespaces for the next workspaces, one by one, while nobody asks: to make one takes
 * locks of the kernel's that the workspace just started needs too. Without one, a workspace makes
 * its own.
 */
static void zygote_prepare_ahead(int fd, LaunchKit *kit) {
        struct pollfd request = {.fd = fd, .events = POLLIN};

        while (kit->netns.n < NETNS_POOL_SIZE && poll(&request, 1, ZYGOTE_IDLE_MS) == 0)
                if (netns_pool_add(&kit->netns, NULL) < 0)
                        return;
}

static const cap_value_t zygote_capabilities[] = {
        /* namespaces and mounts; loopback; a time namespace's offsets */
        CAP_SYS_ADMIN,
        CAP_SYS_CHROOT,
        CAP_NET_ADMIN,
        CAP_SYS_TIME,
        /* the namespaces of its own undumpable children */
        CAP_SYS_PTRACE,
        /* ids and limits as the plan has them */
        CAP_SETUID,
        CAP_SETGID,
        CAP_SETPCAP,
        CAP_KILL,
        CAP_SYS_RESOURCE,
        /* files; an overlay acts with the rights of who mounted it */
        CAP_CHOWN,
        CAP_DAC_OVERRIDE,
        CAP_DAC_READ_SEARCH,
        CAP_FOWNER,
        CAP_FSETID,
        CAP_SETFCAP,
        CAP_MKNOD,
};

/*
 * What it takes to build a workspace and to confine a shim, and nothing else of root's power; a
 * user namespace gives its own to whoever enters it. No key of whoever started carrel, no trace, no
 * dump.
 */
static int zygote_confine(Error **reterr) {
        _cleanup_free_ uint8_t *floor = NULL;
        ProtobufCBinaryData filter = {0};
        int r;

        (void)syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return error_set(reterr, errno, "cannot make the zygote undumpable");
        r = capability_limit(zygote_capabilities, ELEMENTSOF(zygote_capabilities), reterr);
        if (r == 0)
                r = syscalls_floor_compile(&filter, reterr);
        floor = filter.data;
        return r < 0 ? r : seccomp_filter_load(floor, filter.len, reterr);
}

static _Noreturn void zygote_main(const ZygoteSpec *spec, int fd) {
        _cleanup_error_ Error *error = NULL;
        LaunchKit kit = {0};
        int clean, r;

        clean = zygote_clean_descriptors(fd);
        (void)prctl(PR_SET_NAME, "carrel-zygote");
        /* Its children are the runs' own: nobody here waits for them. A terminal's signals are the
         * supervisor's. */
        (void)signal(SIGCHLD, SIG_IGN);
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGTERM, SIG_IGN);
        (void)signal(SIGHUP, SIG_IGN);
        r = clean < 0 ? error_set(&error, -clean, "cannot close what the supervisor has open")
                      : zygote_prepare(spec, &kit, &error);
        fd = clean < 0 ? fd : clean;
        if (r == 0)
                r = zygote_confine(&error);
        if (zygote_answer(fd, -EBADF, error) < 0 || r < 0)
                _exit(1);
        while (r >= 0) {
                zygote_prepare_ahead(fd, &kit);
                r = zygote_serve(fd, &kit);
        }
        _exit(0);
}

int zygote_start(const ZygoteSpec *spec, int *ret_fd, Error **reterr) {
        _cleanup_close_ int ours = -EBADF;
        _cleanup_message_ SpawnResponse *ready = NULL;
        int ends[2], r;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
                return error_set(reterr, errno, "cannot start the zygote");
        ours = ends[0];
        pid = fork();
        if (pid == 0) {
                close(ends[0]);
                /* Twice: the supervisor need not wait for it. */
                if (fork() != 0)
                        _exit(0);
                zygote_main(spec, ends[1]);
        }
        close(ends[1]);
        if (pid < 0 || waitpid(pid, NULL, 0) < 0)
                return error_set(reterr, errno, "cannot start the zygote");
        r = frame_receive(ours, &carrel__v1__spawn_response__descriptor, 64 * KIB, (void **)&ready,
                          NULL, 0, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "the zygote did not start");
        if (ready->error) {
                Error *error = error_from_message(ready->error);

                r = -ready->error->code;
                error_move(reterr, &error);
                return r;
        }
        *ret_fd = TAKE_FD(ours);
        return 0;
}
