#include "kernel/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

static int seccomp_copy(const void *bpf,
                        size_t size,
                        struct sock_filter program[static BPF_MAXINSNS],
                        Error **reterr) {
        if (size == 0 || size % sizeof program[0] != 0 || size > BPF_MAXINSNS * sizeof program[0])
                return error_refuse(reterr, EINVAL, NULL,
                                    "cannot load a system call filter of %zu bytes", size);
        memcpy(program, bpf, size);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, errno, "cannot set no_new_privs");
        return 0;
}

/* Return: what seccomp(2) does, but for 0 or -1: -errno. */
static int seccomp_load(struct sock_filter *program, size_t size, unsigned long flags) {
        struct sock_fprog f = {.len = (unsigned short)(size / sizeof *program), .filter = program};
        long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &f);

        return r < 0 ? -errno : (int)r;
}

/* Without somebody who answers, the kernel would say ENOSYS to what is denied. */
static void seccomp_answer_eperm(struct sock_filter *program, size_t size) {
        for (size_t i = 0; i < size / sizeof *program; i++)
                if (program[i].code == (BPF_RET | BPF_K) && program[i].k == SECCOMP_RET_USER_NOTIF)
                        program[i].k = SECCOMP_RET_ERRNO | EPERM;
}

static int seccomp_load_answered(struct sock_filter *program, size_t size, Error **reterr) {
        int r;

        seccomp_answer_eperm(program, size);
        r = seccomp_load(program, size, 0);
        return r < 0 ? error_set(reterr, -r, "cannot load the system call filter") : 0;
}

int seccomp_filter_load(const void *bpf, size_t size, Error **reterr) {
        struct sock_filter program[BPF_MAXINSNS];
        int r = seccomp_copy(bpf, size, program, reterr);

        return r < 0 ? r : seccomp_load_answered(program, size, reterr);
}

int seccomp_filter_load_listener(const void *bpf, size_t size, int *ret_listener, Error **reterr) {
        /* A call that somebody looks at is not started anew by every signal: Linux >= 5.19. */
        static const unsigned long flags[] = {
                SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
                SECCOMP_FILTER_FLAG_NEW_LISTENER,
        };
        struct sock_filter program[BPF_MAXINSNS];
        int r = seccomp_copy(bpf, size, program, reterr);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
                r = seccomp_load(program, size, flags[i]);
                if (r >= 0) {
                        *ret_listener = r;
                        return 0;
                }
                if (r != -EINVAL)
                        break;
        }
        *ret_listener = -EBADF;
        return seccomp_load_answered(program, size, reterr);
}
