/* System calls as data: named groups, and the conditions under which some calls are let through. */
#pragma once

#include <seccomp.h>
#include <stddef.h>

#include "base/util.h"

typedef struct SyscallGroup {
        const char *name;         /* as a policy writes it, without '@' */
        const char *what;         /* for people */
        const char *const *calls; /* x86-64 names, NULL at the end */
} SyscallGroup;

extern const SyscallGroup syscall_groups[];
extern const size_t n_syscall_groups;

/*
 * A call that stands here at least once is allowed only where one of its rows holds; otherwise
 * EPERM. The kernel reads these arguments as 32-bit numbers, so only the low half is compared.
 */
typedef struct SyscallCondition {
        const char *call;
        unsigned n;
        struct scmp_arg_cmp args[2];
} SyscallCondition;

extern const SyscallCondition syscall_conditions[];
extern const size_t n_syscall_conditions;

/* Requests of ioctl(2) that are refused whatever the policy allows. */
extern const uint32_t syscall_ioctls_denied[];
extern const size_t n_syscall_ioctls_denied;
