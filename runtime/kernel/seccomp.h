/*
 * Loading compiled system call filters. Compiling them: policy/ (libseccomp).
 *
 * A filter may answer SECCOMP_RET_USER_NOTIF: then somebody who listens is asked
 * (seccomp_unotify(2)).
 */
#pragma once

#include "base/error.h"

/**
 * seccomp_filter_load() - filter this thread and all that comes of it; sets no_new_privs first
 * @bpf: array of struct sock_filter, @size bytes
 *
 * Nobody listens: where the filter would notify, it answers EPERM.
 *
 * Return: 0; -EINVAL where @size is no whole number of instructions, or 0, or over 4096 of them
 * (BPF_MAXINSNS).
 */
int seccomp_filter_load(const void *bpf, size_t size, Error **reterr);

/**
 * seccomp_filter_load_listener() - the same, with a descriptor that notifications come from
 * @ret_listener: close-on-exec; -EBADF where the kernel gives none (another listener above: EBUSY;
 *                seccomp(2) itself filtered): then EPERM is answered as above
 *
 * From here on a call that notifies waits for whoever holds the descriptor.
 */
int seccomp_filter_load_listener(const void *bpf, size_t size, int *ret_listener, Error **reterr);
