#include "kernel/seccomp.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int seccomp_filter_load(const void *bpf, size_t size, Error **reterr) {
        struct sock_filter program[BPF_MAXINSNS];
        struct sock_fprog f = {.len = (unsigned short)(size / sizeof program[0]),
                               .filter = program};

        if (size == 0 || size % sizeof program[0] != 0 || size > sizeof program)
                return error_refuse(reterr, EINVAL, NULL,
                                    "cannot load a system call filter of %zu bytes", size);
        memcpy(program, bpf, size);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(reterr, errno, "cannot set no_new_privs");
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &f) < 0)
                return error_set(reterr, errno, "cannot load the system call filter");
        return 0;
}
