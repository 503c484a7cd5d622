/* Loading compiled system call filters. Compiling them: policy/ (libseccomp). */
#pragma once

#include "base/error.h"

/**
 * seccomp_filter_load() - filter this thread and all that comes of it; sets no_new_privs first
 * @bpf: array of struct sock_filter, @size bytes
 *
 * Return: 0; -EINVAL where @size is no whole number of instructions, or 0, or over 4096 of them
 * (BPF_MAXINSNS).
 */
int seccomp_filter_load(const void *bpf, size_t size, Error **reterr);
