#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kernel/userns.h"

/* Nobody: capabilities alone decide what it may read. Root could write what root owns without any.
 */
#define CONFINE_ID 65534

#define CONFINE_MEMORY (2 * GIB)
#define CONFINE_FILES  64

/* For the reading of trees, and for libc's memory and end; its qsort(3) asks for the size of the
 * memory (sysinfo) once there are more than 128 names to sort. */
static const int confine_always[] = {
        SCMP_SYS(brk),          SCMP_SYS(clock_gettime), SCMP_SYS(close),   SCMP_SYS(exit_group),
        SCMP_SYS(fcntl),        SCMP_SYS(fstat),         SCMP_SYS(futex),   SCMP_SYS(getdents64),
        SCMP_SYS(getrandom),    SCMP_SYS(lseek),         SCMP_SYS(mremap),  SCMP_SYS(munmap),
        SCMP_SYS(newfstatat),   SCMP_SYS(openat2),       SCMP_SYS(read),    SCMP_SYS(readlinkat),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(statx),         SCMP_SYS(sysinfo), SCMP_SYS(write),
};

/* For the walk, and for the second step itself. */
static const int confine_first[] = {
        SCMP_SYS(capget),  SCMP_SYS(capset), SCMP_SYS(fgetxattr),
        SCMP_SYS(geteuid), SCMP_SYS(prctl),  SCMP_SYS(seccomp),
};

static void confine_filter_freep(scmp_filter_ctx *c) {
        if (*c)
                seccomp_release(*c);
}

static int confine_filter_add(scmp_filter_ctx c, const int *calls, size_t n) {
        for (size_t i = 0; i < n; i++) {
                int r = seccomp_rule_add(c, SCMP_ACT_ALLOW, calls[i], 0);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Memory that is never executable. */
static int confine_filter_memory(scmp_filter_ctx c) {
        struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
        int r;

        r = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, no_exec);
        return r < 0 ? r : seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, no_exec);
}

static int confine_filter(bool first, Error **reterr) {
        _cleanup_(confine_filter_freep) scmp_filter_ctx c = seccomp_init(SCMP_ACT_KILL_PROCESS);
        int r;

        if (!c)
                return error_set(reterr, ENOMEM, "cannot confine itself: no system call filter");
        r = confine_filter_add(c, confine_always, ELEMENTSOF(confine_always));
        if (r == 0 && first)
                r = confine_filter_add(c, confine_first, ELEMENTSOF(confine_first));
        if (r == 0)
                r = confine_filter_memory(c);
        if (r == 0)
                r = seccomp_load(c);
        if (r < 0)
                return error_set(reterr, -r, "cannot confine itself: no system call filter");
        return 0;
}

static void confine_caps_freep(cap_t *c) {
        if (*c)
                cap_free(*c);
}

/* Keeps these and no other, permitted and effective. */
static int confine_capabilities(const cap_value_t *keep, int n, Error **reterr) {
        _cleanup_(confine_caps_freep) cap_t caps = cap_init();

        if (!caps || cap_set_flag(caps, CAP_PERMITTED, n, keep, CAP_SET) < 0 ||
            cap_set_flag(caps, CAP_EFFECTIVE, n, keep, CAP_SET) < 0 || cap_set_proc(caps) < 0)
                return error_set(reterr, errno, "cannot confine itself: capabilities stay");
        return 0;
}

static int confine_limit(int resource, rlim_t most) {
        struct rlimit l = {.rlim_cur = most, .rlim_max = most}, now;

        if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
                return -errno;
        l.rlim_max = l.rlim_cur = MIN_OF(most, now.rlim_max);
        return setrlimit((__rlimit_resource_t)resource, &l) < 0 ? -errno : 0;
}

static int confine_process(Error **reterr) {
        int r;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, errno,
                                 "cannot confine itself: new privileges stay possible");
        r = confine_limit(RLIMIT_CORE, 0);
        if (r == 0)
                r = confine_limit(RLIMIT_NOFILE, CONFINE_FILES);
        if (r == 0)
                r = confine_limit(RLIMIT_AS, CONFINE_MEMORY);
        if (r < 0)
                return error_set(reterr, -r, "cannot confine itself: no resource limits");
        return 0;
}

static int confine_root(int root_fd, Error **reterr) {
        if (root_fd < 0)
                return 0;
        if (fchdir(root_fd) < 0 || chroot(".") < 0)
                return error_set(reterr, errno, "cannot confine itself: no root directory");
        return 0;
}

static int confine_drop_bounding(Error **reterr) {
        for (cap_value_t c = 0; c <= cap_max_bits() - 1; c++)
                if (cap_drop_bound(c) < 0)
                        return error_set(reterr, errno,
                                         "cannot confine itself: capabilities stay bound");
        return 0;
}

static int confine_become_nobody(Error **reterr) {
        if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
            setresgid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0 ||
            setresuid(CONFINE_ID, CONFINE_ID, CONFINE_ID) < 0 ||
            prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
                return error_set(reterr, errno, "cannot confine itself: it stays root");
        return 0;
}

/* A user's namespace may have no nobody, and one of it could not read all that the user can:
 * without root it stays the user, and what it is given is mounted read-only. */
static int confine_identity(bool rootless, Error **reterr) {
        int r = confine_drop_bounding(reterr);

        if (r == 0 && !rootless)
                r = confine_become_nobody(reterr);
        if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                r = error_set(reterr, errno, "cannot confine itself: it stays traceable");
        return r;
}

int confine_to_reading(int root_fd, Error **reterr) {
        static const cap_value_t keep[] = {CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN};
        UsernsLayout layout;
        int r;

        r = userns_read_layout(&layout, reterr);
        if (r == 0)
                r = confine_process(reterr);
        if (r == 0)
                r = confine_root(root_fd, reterr);
        if (r == 0)
                r = confine_identity(layout != USERNS_LAYOUT_HOST, reterr);
        if (r == 0)
                r = confine_capabilities(keep, ELEMENTSOF(keep), reterr);
        if (r == 0)
                r = confine_filter(true, reterr);
        return error_hint(reterr, r, "start it as root");
}

int confine_to_bytes(Error **reterr) {
        static const cap_value_t keep[] = {CAP_DAC_READ_SEARCH};
        int r = confine_capabilities(keep, ELEMENTSOF(keep), reterr);

        return r < 0 ? r : confine_filter(false, reterr);
}
