#include "kernel/mount.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

/* From <sys/mount.h>, which cannot stand beside <linux/mount.h> with this libc (2.36). */
#define MOUNT_PRIVATE_RECURSIVE (0x4000UL | (1UL << 18)) /* MS_REC | MS_PRIVATE */
#define MOUNT_DETACH            2                        /* MNT_DETACH */

static uint64_t mount_attributes(MountFlags f) {
        return MOUNT_ATTR_NOSUID | (f.devices ? 0 : MOUNT_ATTR_NODEV) |
               (f.writable ? 0 : MOUNT_ATTR_RDONLY) | (f.executable ? 0 : MOUNT_ATTR_NOEXEC);
}

static int
mount_clone(int fd, int userns_fd, MountFlags flags, int how, const char *name, Error **reterr) {
        _cleanup_close_ int tree = -EBADF;
        struct mount_attr attributes = {.attr_set = mount_attributes(flags),
                                        .propagation = 1UL << 18};
        int r;

        tree = (int)syscall(SYS_open_tree, fd, "",
                            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | how);
        if (tree < 0)
                return error_set(reterr, errno, "cannot take '%s' as a mount", name);
        if (userns_fd >= 0) {
                attributes.attr_set |= MOUNT_ATTR_IDMAP;
                attributes.userns_fd = (uint64_t)userns_fd;
        }
        if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | how, &attributes,
                    sizeof attributes) < 0) {
                r = error_set(reterr, errno, "cannot shift the ids of '%s'", name);
                if (r == -EINVAL && userns_fd >= 0)
                        error_hint(reterr, r,
                                   "its file system cannot do id-mapped mounts on this kernel "
                                   "(tmpfs needs "
                                   "Linux 6.3; overlayfs cannot): put it on ext4, xfs or btrfs");
                return r;
        }
        return TAKE_FD(tree);
}

int mount_clone_tree(int fd, int userns_fd, MountFlags flags, const char *name, Error **reterr) {
        return mount_clone(fd, userns_fd, flags, 0, name, reterr);
}

int mount_clone_trees(int fd, MountFlags flags, const char *name, Error **reterr) {
        return mount_clone(fd, -EBADF, flags, AT_RECURSIVE, name, reterr);
}

/* The context's log says more than errno: "overlay: upper fs needs to support d_type". */
static int mount_context_error(int context, Error **reterr, const char *what) {
        int saved = errno;
        char text[512];
        ssize_t n = read(context, text, sizeof text - 1);

        if (n <= 2)
                return error_set(reterr, saved, "%s", what);
        text[n] = 0;
        text[strcspn(text, "\n")] = 0;
        return error_set(reterr, saved, "%s (kernel: %s)", what, text + 2);
}

typedef struct MountOption {
        const char *name;
        const char *value; /* NULL: a flag */
} MountOption;

static int mount_make(
        const char *type, const MountOption *options, size_t n, MountFlags flags, Error **reterr) {
        _cleanup_close_ int context = -EBADF;
        char what[64];
        int fd;

        snprintf(what, sizeof what, "cannot make a '%s' file system", type);
        context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
        if (context < 0)
                return error_set(reterr, errno, "%s", what);
        for (size_t i = 0; i < n; i++)
                if (syscall(SYS_fsconfig, context,
                            options[i].value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG,
                            options[i].name, options[i].value, 0) < 0)
                        return mount_context_error(context, reterr, what);
        if (syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return mount_context_error(context, reterr, what);
        fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, mount_attributes(flags));
        if (fd < 0)
                return mount_context_error(context, reterr, what);
        return fd;
}

static char *mount_number(char buffer[static 24], const char *format, uint64_t n) {
        snprintf(buffer, 24, strcmp(format, "o") == 0 ? "%lo" : "%lu", n);
        return buffer;
}

int mount_tmpfs(
        uint64_t size_bytes, mode_t mode, uid_t uid, gid_t gid, MountFlags flags, Error **reterr) {
        char size[24], octal[24], user[24], group[24];
        const MountOption options[] = {
                {"size", mount_number(size, "u", size_bytes)},
                {"mode", mount_number(octal, "o", mode)},
                {"uid", mount_number(user, "u", uid)},
                {"gid", mount_number(group, "u", gid)},
        };

        return mount_make("tmpfs", options, ELEMENTSOF(options), flags, reterr);
}

int mount_ext4(const char *device, MountFlags flags, Error **reterr) {
        const MountOption options[] = {
                {"source", device},
                {"errors", "remount-ro"},
                {"noinit_itable", NULL},
        };

        return mount_make("ext4", options, ELEMENTSOF(options), flags, reterr);
}

int mount_proc(Error **reterr) {
        static const MountOption options[] = {{"hidepid", "invisible"}};

        return mount_make("proc", options, ELEMENTSOF(options), (MountFlags){.writable = true},
                          reterr);
}

int mount_sys(Error **reterr) {
        return mount_make("sysfs", NULL, 0, (MountFlags){0}, reterr);
}

int mount_devpts(gid_t tty_gid, Error **reterr) {
        char group[24];
        const MountOption options[] = {
                {"ptmxmode", "0666"},
                {"mode", "0620"},
                {"gid", mount_number(group, "u", tty_gid)},
        };

        return mount_make("devpts", options, ELEMENTSOF(options),
                          (MountFlags){.writable = true, .devices = true}, reterr);
}

int mount_overlay(
        int lower_fd, int upper_fd, int work_fd, bool executable, bool userxattr, Error **reterr) {
        char lower[32], upper[32], work[32];
        const MountOption options[] = {
                {"lowerdir", lower}, {"upperdir", upper},
                {"workdir", work},   {"redirect_dir", "nofollow"},
                {"metacopy", "off"}, {"index", "off"},
                {"xino", "auto"},    {"volatile", NULL},
                {"userxattr", NULL},
        };

        /* Paths of three digits: no escaping, no length limit, no second walk of a name. */
        snprintf(lower, sizeof lower, "/proc/self/fd/%d", lower_fd);
        snprintf(upper, sizeof upper, "/proc/self/fd/%d", upper_fd);
        snprintf(work, sizeof work, "/proc/self/fd/%d", work_fd);
        return mount_make("overlay", options, ELEMENTSOF(options) - (userxattr ? 0 : 1),
                          (MountFlags){.writable = true, .executable = executable}, reterr);
}

int mount_attach_at(int mount_fd, int dir_fd, Error **reterr) {
        if (syscall(SYS_move_mount, mount_fd, "", dir_fd, "",
                    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
                return error_set(reterr, errno, "cannot attach a mount");
        return 0;
}

int mount_attach(int mount_fd, int root_fd, const char *target, Error **reterr) {
        _cleanup_close_ int fd = path_open_in_root(root_fd, target, O_PATH, reterr);

        if (fd < 0)
                return error_wrap(reterr, fd, "cannot attach a mount at '%s'", target);
        if (mount_attach_at(mount_fd, fd, NULL) < 0)
                return error_set(reterr, errno, "cannot attach a mount at '%s'", target);
        return 0;
}

int mount_make_private(Error **reterr) {
        if (syscall(SYS_mount, NULL, "/", NULL, MOUNT_PRIVATE_RECURSIVE, NULL) < 0)
                return error_set(reterr, errno, "cannot make the mounts private");
        return 0;
}

int mount_make_read_only(int mount_fd, const char *name, Error **reterr) {
        struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};

        if (syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, &attributes,
                    sizeof attributes) < 0)
                return error_set(reterr, errno, "cannot make '%s' read-only", name);
        return 0;
}

int mount_become_root(int root_fd, Error **reterr) {
        /* Both arguments ".": the old root ends up mounted over the new one, and is let go
         * (pivot_root(2)). */
        if (fchdir(root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
            syscall(SYS_umount2, ".", MOUNT_DETACH) < 0 || chdir("/") < 0)
                return error_set(reterr, errno, "cannot change to the workspace's root");
        return 0;
}

static const struct {
        const char *name;
        unsigned major, minor; /* Documentation/admin-guide/devices.txt */
} mount_nodes[MOUNT_N_DEVICES] = {
        {"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
        {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
};

int mount_devices(int dev_fd, bool nodes, uid_t uid, gid_t gid, Error **reterr) {
        static const struct {
                const char *name, *target;
        } links[] = {
                {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
                {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
                {"ptmx", "pts/ptmx"},
        };
        static const char *const directories[] = {"pts", "shm"};

        for (size_t i = 0; i < ELEMENTSOF(mount_nodes); i++)
                if (mknodat(dev_fd, mount_nodes[i].name, (nodes ? S_IFCHR : S_IFREG) | 0666,
                            makedev(mount_nodes[i].major, mount_nodes[i].minor)) < 0 ||
                    fchmodat(dev_fd, mount_nodes[i].name, 0666, 0) < 0 ||
                    fchownat(dev_fd, mount_nodes[i].name, uid, gid, 0) < 0)
                        return error_set(reterr, errno, "cannot create '/dev/%s'",
                                         mount_nodes[i].name);
        for (size_t i = 0; i < ELEMENTSOF(links); i++)
                if (symlinkat(links[i].target, dev_fd, links[i].name) < 0 ||
                    fchownat(dev_fd, links[i].name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
                        return error_set(reterr, errno, "cannot create '/dev/%s'", links[i].name);
        for (size_t i = 0; i < ELEMENTSOF(directories); i++)
                if (mkdirat(dev_fd, directories[i], 0755) < 0)
                        return error_set(reterr, errno, "cannot create '/dev/%s'", directories[i]);
        return 0;
}

/* What a container's /dev holds is its runtime's choice: take a node for what it is, not for its
 * name. */
static int mount_open_device(size_t i, const char *path, Error **reterr) {
        _cleanup_close_ int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot open '%s'", path);
        if (!S_ISCHR(st.st_mode) ||
            st.st_rdev != makedev(mount_nodes[i].major, mount_nodes[i].minor))
                return error_refuse(reterr, ENODEV, NULL, "'%s' is not the device it is named for",
                                    path);
        return TAKE_FD(fd);
}

int mount_clone_devices(int ret_fds[static MOUNT_N_DEVICES], Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(mount_nodes); i++) {
                _cleanup_close_ int fd = -EBADF;
                char path[32];

                snprintf(path, sizeof path, "/dev/%s", mount_nodes[i].name);
                fd = mount_open_device(i, path, reterr);
                if (fd < 0)
                        return fd;
                ret_fds[i] = mount_clone_tree(
                        fd, -EBADF, (MountFlags){.writable = true, .devices = true}, path, reterr);
                if (ret_fds[i] < 0)
                        return ret_fds[i];
        }
        return 0;
}

int mount_attach_devices(const int fds[static MOUNT_N_DEVICES], int root_fd, Error **reterr) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(mount_nodes); i++) {
                char path[32];

                snprintf(path, sizeof path, "/dev/%s", mount_nodes[i].name);
                r = mount_attach(fds[i], root_fd, path, reterr);
        }
        return r;
}
