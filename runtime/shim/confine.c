#include "shim/confine.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.h"
#include "kernel/capability.h"
#include "kernel/landlock.h"
#include "kernel/seccomp.h"

/* What an event loop over descriptors needs: nothing that opens a path, makes a process or names
 * another one. */
static const char *const confine_calls[] = {
        "accept4",
        "brk",
        "clock_gettime",
        "clock_nanosleep",
        "close",
        "dup",
        "dup3",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "epoll_pwait2",
        "epoll_wait",
        "exit",
        "exit_group",
        "fcntl",
        "fstat",
        "newfstatat",
        "ftruncate",
        "futex",
        "getpid",
        "getppid",
        "getrandom",
        "getsockname",
        "getsockopt",
        "gettid",
        "getuid",
        "geteuid",
        "ioctl",
        "lseek",
        "madvise",
        "memfd_create",
        "mmap",
        "mprotect",
        "mremap",
        "munmap",
        "pidfd_send_signal",
        "pipe2",
        "poll",
        "ppoll",
        "pread64",
        "pwrite64",
        "read",
        "readv",
        "recvfrom",
        "recvmsg",
        "restart_syscall",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sendmsg",
        "sendto",
        "setsockopt",
        "shutdown",
        "sigaltstack",
        "signalfd4",
        "splice",
        "tee",
        "timerfd_create",
        "timerfd_gettime",
        "timerfd_settime",
        "waitid",
        "write",
        "writev",
};

static void confine_release(scmp_filter_ctx *ctx) {
        if (*ctx)
                seccomp_release(*ctx);
}

static int confine_export(scmp_filter_ctx ctx, ConfineFilter *ret_filter) {
        _cleanup_close_ int fd = memfd_create("carrel-filter", MFD_CLOEXEC);
        char *data = NULL;
        size_t size = 0;
        int r = fd < 0 ? -errno : seccomp_export_bpf(ctx, fd);

        if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
                r = -errno;
        if (r == 0)
                r = fd_read_file(fd, 64 * KIB, &data, &size);
        if (r < 0)
                return r;
        *ret_filter = (ConfineFilter){.bpf = (uint8_t *)data, .size = size};
        return 0;
}

int confine_compile(ConfineFilter *ret_filter, Error **reterr) {
        _cleanup_(confine_release) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int r = ctx ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(confine_calls); i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW,
                                     seccomp_syscall_resolve_name(confine_calls[i]), 0);
        if (r == 0)
                r = confine_export(ctx, ret_filter);
        return r < 0 ? error_set(reterr, -r, "cannot compile the shim's system call filter") : 0;
}

static int confine_limits(uint64_t file_size) {
        const struct {
                int resource;
                rlim_t value;
        } limits[] = {
                {RLIMIT_CORE, 0},
                {RLIMIT_NPROC, 0},
                {RLIMIT_FSIZE, file_size},
                {RLIMIT_NOFILE, 1024},
        };

        for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
                struct rlimit now, set;

                if (getrlimit((__rlimit_resource_t)limits[i].resource, &now) < 0)
                        return -errno;
                set.rlim_cur = set.rlim_max = MIN_OF(limits[i].value, now.rlim_max);
                if (setrlimit((__rlimit_resource_t)limits[i].resource, &set) < 0)
                        return -errno;
        }
        /* Past the size a write fails instead of ending the process. */
        return signal(SIGXFSZ, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno
                                                                                          : 0;
}

int shim_confine(const ConfineFilter *filter,
                 int empty_fd,
                 uint32_t id,
                 uint64_t file_size,
                 ErrorList *degraded,
                 Error **reterr) {
        _cleanup_error_ Error *missing = NULL;
        int r = confine_limits(file_size);

        if (r < 0)
                return error_set(reterr, -r, "cannot limit the shim");
        if (fchdir(empty_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
                return error_set(reterr, errno, "cannot take the shim's root away");
        fd_close(empty_fd);
        r = capability_drop_bounding(reterr); /* while there is the right to */
        if (r < 0)
                return r;
        /* A user's own id has its groups, which a user namespace of one id cannot leave. */
        if ((setgroups(0, NULL) < 0 && id != 0) || setresgid(id, id, id) < 0 ||
            setresuid(id, id, id) < 0)
                return error_set(reterr, errno, "cannot give the shim its own id");
        r = capability_drop_all(reterr);
        if (r < 0)
                return r;
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return error_set(reterr, errno, "cannot make the shim undumpable");
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, errno, "cannot set no_new_privs");
        r = landlock_forbid_all(&missing);
        if (r < 0 && r != -ENOTSUP) {
                error_move(reterr, &missing);
                return r;
        }
        error_list_add(degraded, &missing);
        return seccomp_filter_load(filter->bpf, filter->size, reterr);
}
