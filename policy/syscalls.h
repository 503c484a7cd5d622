/*
 * System calls: a policy's names to a set, a set to a seccomp filter, a denied call to words
 *
 * Trust: names come from any submitter and are checked; numbers and arguments of a denied call come
 * from an agent, and nothing they point to is read.
 */
#pragma once

#include "policy/syscall_groups.h"
#include "proto/messages.h"

#define SYSCALL_NUMBERS 1024u /* x86-64 ended below 470 in Linux 6.18 */

typedef Carrel__V1__Syscalls Syscalls;

/* All that a filter depends on. */
typedef struct SyscallSet {
        bool has[SYSCALL_NUMBERS];
        bool nesting;
} SyscallSet;

/** syscall_number() - x86-64's. Return: -ENOENT where libseccomp knows no such call. */
int syscall_number(const char *name);

/** syscall_name() - fresh, or NULL where libseccomp has no name for the number. */
char *syscall_name(unsigned number);

/** syscall_group_of() - the group a call stands in, or NULL. */
const SyscallGroup *syscall_group_of(const char *call);

/** syscalls_check() - what is said, whatever other policies add: names, and what no policy may say.
 */
int syscalls_check(const Syscalls *syscalls, Error **reterr);

/** syscalls_check_whole() - of a resolved policy: a program can be started. */
int syscalls_check_whole(const Syscalls *syscalls, Error **reterr);

/** syscalls_resolve() - which calls a checked policy allows, arguments aside. */
void syscalls_resolve(const Syscalls *syscalls, bool nesting, SyscallSet *ret);

/**
 * syscalls_compile() - a filter as struct sock_filter[], for seccomp(2); costs about a millisecond
 *
 * What it denies is answered by SECCOMP_RET_USER_NOTIF: seccomp_filter_load() makes EPERM of that,
 * seccomp_filter_load_listener() lets somebody explain it.
 */
int syscalls_compile(const Syscalls *syscalls,
                     bool nesting,
                     ProtobufCBinaryData *ret_filter,
                     Error **reterr);

/**
 * syscalls_floor_compile() - a filter that refuses what no policy can allow, and nothing else
 *
 * EPERM; foreign architectures pass: what is loaded below it has to close them.
 */
int syscalls_floor_compile(ProtobufCBinaryData *ret_filter, Error **reterr);

/** syscall_boxes() - what arguments a call may have where the policy allows it. */
void syscall_boxes(const char *call,
                   bool nesting,
                   void (*use)(const SyscallBox *box, void *data),
                   void *data);

/* Why a call was denied, in a policy's words. */
typedef struct SyscallExplanation {
        char call[32];
        char arguments[160]; /* those that mattered; may be empty */
        char rule[192];
        char hint[192]; /* may be empty */
} SyscallExplanation;

/** syscalls_explain() - @nesting: as the policy had it. */
void syscalls_explain(unsigned number,
                      const uint64_t args[static SYSCALL_ARGS],
                      bool nesting,
                      SyscallExplanation *ret);
