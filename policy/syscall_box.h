/*
 * Sets of argument values, as boxes: under a mask, each argument has a value
 *
 * What a seccomp rule can say of arguments is a box, what a call's rules say together is a union of
 * boxes, and "all but these" is what is left of the whole when boxes are taken from it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SYSCALL_ARGS 6

/* All masks zero: any arguments. Bits of a value outside of its mask are zero. */
typedef struct SyscallBox {
        uint32_t mask[SYSCALL_ARGS], value[SYSCALL_ARGS];
} SyscallBox;

/** syscall_box_has() - whether a call with @args is in the box; high halves do not count. */
bool syscall_box_has(const SyscallBox *box, const uint64_t args[static SYSCALL_ARGS]);

/** syscall_box_contains() - whether every call of @inner is one of @outer. */
bool syscall_box_contains(const SyscallBox *outer, const SyscallBox *inner);

/** syscall_box_meets() - whether any call is in both. */
bool syscall_box_meets(const SyscallBox *a, const SyscallBox *b);

/**
 * syscall_box_subtract() - what is left of @box without @others, as boxes that do not overlap
 * @use: called with each of them; may be NULL
 *
 * Return: 0 where nothing is left; 1 where something is; -E2BIG where finding out takes too many
 * steps: masks may come from anybody.
 */
int syscall_box_subtract(const SyscallBox *box,
                         const SyscallBox *others,
                         size_t n_others,
                         void (*use)(const SyscallBox *left, void *data),
                         void *data);
