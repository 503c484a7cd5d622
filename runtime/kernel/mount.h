/*
 * Mounts as descriptors: made detached, restricted while nobody can reach them, then attached
 *
 * Model:     every function that makes a mount returns a descriptor of a detached one; only
 * mount_attach() puts it somewhere, and only mount_become_root() changes what "/" is. Until then a
 * failure leaves nothing behind but a descriptor to close. Trust:     runs privileged. Targets are
 * resolved inside a root descriptor (RESOLVE_IN_ROOT). Invariant: everything is nosuid and nodev,
 * but the device directory that mount_devices() fills. Source:    fsopen(2), open_tree(2),
 * mount_setattr(2), move_mount(2); Linux >= 5.12.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

typedef struct MountFlags {
        bool writable;
        bool executable;
        bool devices;
} MountFlags;

/**
 * mount_clone_tree() - the directory or file behind a descriptor, as a detached mount without
 * submounts
 * @fd:        O_PATH descriptor in the caller's mount namespace; borrowed
 * @userns_fd: ids are shifted by this namespace's map; -EBADF: not shifted; borrowed
 * @name:      path for errors
 *
 * Return: descriptor; -EINVAL where the file system cannot shift ids.
 */
int mount_clone_tree(int fd, int userns_fd, MountFlags flags, const char *name, Error **reterr);

/** mount_clone_trees() - the same, unshifted and with everything that is mounted below: what a user
 * may not take apart. */
int mount_clone_trees(int fd, MountFlags flags, const char *name, Error **reterr);

/** mount_tmpfs() - an empty memory file system; @uid and @gid (host ids) own its root. */
int mount_tmpfs(
        uint64_t size_bytes, mode_t mode, uid_t uid, gid_t gid, MountFlags flags, Error **reterr);

/**
 * mount_ext4() - the ext4 file system on a block device that is carrel's own
 *
 * May be mounted already: it is the same one then. The kernel zeroes nothing in the background, and
 * makes it read-only where it is found damaged.
 */
int mount_ext4(const char *device, MountFlags flags, Error **reterr);

/** mount_proc() - procfs of the caller's pid namespace; processes that a reader may not trace are
 * not there (hidepid=invisible, a mount's own since Linux 5.8). */
int mount_proc(Error **reterr);

/** mount_sys() - sysfs of the caller's network namespace, read-only. */
int mount_sys(Error **reterr);

/** mount_devpts() - pseudo-terminals of their own; @tty_gid (host id) is the group of each. */
int mount_devpts(gid_t tty_gid, Error **reterr);

/**
 * mount_overlay() - lower shown through upper
 * @lower_fd, @upper_fd, @work_fd: descriptors on mounts that are attached in the caller's namespace
 * @userxattr: its notes go to user.overlay.*, as who has no power over the host may write no
 * trusted.overlay.* (Linux >= 5.11)
 *
 * volatile: neither fsync(2) inside nor the unmount writes anything to the disk before its time.
 * Without it each end of a workspace would wait for *all* that is dirty on the host's file system
 * (10 ms and more); a power failure during a run may cost what the run had written. Redirects are
 * neither made nor followed, metacopy and index are off: upper is readable without an overlay
 * (runtime/workspace/changes.h).
 */
int mount_overlay(
        int lower_fd, int upper_fd, int work_fd, bool executable, bool userxattr, Error **reterr);

/** mount_attach() - attach @mount_fd at @target, an existing place inside @root_fd. */
int mount_attach(int mount_fd, int root_fd, const char *target, Error **reterr);

/** mount_attach_at() - attach @mount_fd on the directory that @dir_fd is. */
int mount_attach_at(int mount_fd, int dir_fd, Error **reterr);

/** mount_make_private() - no mount event passes between this namespace and any other. */
int mount_make_private(Error **reterr);

/** mount_make_read_only() - an attached mount, and not what is mounted below it. */
int mount_make_read_only(int mount_fd, const char *name, Error **reterr);

/** mount_become_root() - make the attached mount @root_fd this process's "/", and let go of the old
 * one. */
int mount_become_root(int root_fd, Error **reterr);

/**
 * mount_devices() - null, zero, full, random, urandom, tty and the usual links in an empty writable
 * tmpfs, owned by @uid
 * @nodes: false: empty files instead, for mount_attach_devices(): a user makes no device nodes
 */
int mount_devices(int dev_fd, bool nodes, uid_t uid, gid_t gid, Error **reterr);

#define MOUNT_N_DEVICES 6

/** mount_clone_devices() - the same nodes of the host, detached; on failure some are open. */
int mount_clone_devices(int ret_fds[static MOUNT_N_DEVICES], Error **reterr);

/** mount_attach_devices() - these over the empty files in /dev of @root_fd. */
int mount_attach_devices(const int fds[static MOUNT_N_DEVICES], int root_fd, Error **reterr);
