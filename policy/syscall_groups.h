/* System calls as data: named groups, and what arguments some calls may have. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/util.h"
#include "policy/syscall_box.h"

typedef struct SyscallGroup {
        const char *name;         /* as a policy writes it, without '@' */
        const char *what;         /* for people */
        const char *const *calls; /* x86-64 names, NULL at the end */
        const char *never;        /* why no policy can allow these; NULL: one can */
        bool nesting;             /* allowed by 'nesting: yes' */
} SyscallGroup;

extern const SyscallGroup syscall_groups[];
extern const size_t n_syscall_groups;

/*
 * A call that stands here at least once is allowed only where one of its rows holds. The kernel
 * reads these arguments as 32-bit numbers, so only the low half is compared.
 */
typedef struct SyscallCondition {
        const char *call;
        SyscallBox box;
        bool nesting; /* 'nesting: yes' lifts it */
} SyscallCondition;

extern const SyscallCondition syscall_conditions[];
extern const size_t n_syscall_conditions;

/* The other way round: arguments that are refused whatever the policy allows; masks are whole. At
 * most 64. */
typedef struct SyscallDenial {
        const char *call;
        SyscallBox box;
        const char *why; /* for people */
} SyscallDenial;

extern const SyscallDenial syscall_denials[];
extern const size_t n_syscall_denials;

/* What init's child does between loading the filter and executing the program, or has to do where
 * that fails: a policy without these starts nothing. */
extern const char *const syscall_required[];
extern const size_t n_syscall_required;
