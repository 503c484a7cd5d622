/*
 * /dev: the usual nodes, each the one it claims to be, and no way to get another
 *
 * CVE-2026-47766: /dev replaced by a link while it was filled. CVE-2025-52565: /dev/console bound
 * over a link. CVE-2025-31133: /dev/null replaced before it became a mask.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "conformance.h"

static const char *const devices_usual[] = {
        ".",      "..",  "fd",     "full",  "mqueue", "null", "ptmx",    "pts",
        "random", "shm", "stderr", "stdin", "stdout", "tty",  "urandom", "zero",
};

static bool devices_is_usual(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(devices_usual); i++)
                if (strcmp(devices_usual[i], name) == 0)
                        return true;
        return false;
}

static Verdict devices_only_usual(const Check *c) {
        DIR *d = opendir("/dev");
        struct dirent *e;
        char found[256] = "";

        while (d && (e = readdir(d)))
                if (!devices_is_usual(e->d_name))
                        snprintf(found, sizeof found, "%s", e->d_name);
        if (d)
                closedir(d);
        return verdict_expect(d && !*found, "the usual nodes", "/dev/%s", found);
}

static Verdict devices_no_block(const Check *c) {
        DIR *d = opendir("/dev");
        struct dirent *e;
        struct stat st;
        char found[256] = "";

        while (d && (e = readdir(d)))
                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISBLK(st.st_mode))
                        snprintf(found, sizeof found, "%s", e->d_name);
        if (d)
                closedir(d);
        return verdict_expect(d && !*found, "no block device", "/dev/%s", found);
}

/* @args: major and minor. */
static Verdict devices_node(const Check *c) {
        struct stat st = {0};

        (void)lstat(c->text, &st);
        return verdict_expect(S_ISCHR(st.st_mode) && st.st_rdev == makedev((unsigned)c->args[0],
                                                                           (unsigned)c->args[1]),
                              "the device itself", "mode %o, device %u:%u at %s", st.st_mode,
                              major(st.st_rdev), minor(st.st_rdev), c->text);
}

/* @number: the file system's type. */
static Verdict devices_directory(const Check *c) {
        struct statfs s = {0};
        struct stat st = {0};

        (void)lstat(c->text, &st);
        (void)statfs(c->text, &s);
        return verdict_expect(S_ISDIR(st.st_mode) && s.f_type == c->number,
                              "a directory of its own file system", "mode %o, type %#lx",
                              st.st_mode, (unsigned long)s.f_type);
}

/* As the runtime left it: nobody who is confined may put something into its place. */
static Verdict devices_is_owned_by_root(const Check *c) {
        struct stat st = {0};

        (void)lstat(c->text, &st);
        return verdict_expect(st.st_uid != getuid() && !(st.st_mode & 022) && getuid(),
                              "a directory that is not ours", "owner %u, mode %o", st.st_uid,
                              st.st_mode);
}

static Verdict devices_no_create(const Check *c) {
        int r = symlink("/proc", "/dev/.carrel-conformance");

        if (r == 0)
                unlink("/dev/.carrel-conformance");
        return verdict_denied("a link in /dev", r);
}

static Verdict devices_no_open(const Check *c) {
        return verdict_denied(c->text, open(c->text, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

/* @number: type, @args: major and minor. */
static Verdict devices_mknod(const Check *c) {
        dev_t device = makedev((unsigned)c->args[0], (unsigned)c->args[1]);

        return verdict_refused("mknod",
                               mknod(probe_path("node"), (mode_t)c->number | 0600, device));
}

static Verdict devices_mknodat(const Check *c) {
        int fd = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
        dev_t device = makedev((unsigned)c->args[0], (unsigned)c->args[1]);

        return verdict_refused("mknodat", mknodat(fd, "node-at", (mode_t)c->number | 0600, device));
}

/* In an instance of its own the first terminal has the number 0. */
static Verdict devices_own_terminals(const Check *c) {
        int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        const char *name = fd < 0 ? NULL : ptsname(fd);

        return verdict_expect(name && strtol(name + strcspn(name, "0123456789"), NULL, 10) < 2,
                              "an instance of its own", "%s", name ?: errno_name(errno));
}

#define NODE(name_, major_, minor_)                                                                \
        {                                                                                          \
                .name = name_ "_is_itself", .run = devices_node, .text = "/dev/" name_, .args = {  \
                        (major_),                                                                  \
                        (minor_)                                                                   \
                }                                                                                  \
        }
#define NO_DEVICE(name_, path)                                                                     \
        { .name = "no_" name_, .run = devices_no_open, .text = (path) }

static const Check checks[] = {
        {"only_the_usual", devices_only_usual},
        {"no_block_device", devices_no_block},
        {"dev_is_a_directory", devices_directory, .text = "/dev", .number = TMPFS_MAGIC},
        {"pts_is_a_directory", devices_directory, .text = "/dev/pts", .number = DEVPTS_SUPER_MAGIC},
        {"shm_is_a_directory", devices_directory, .text = "/dev/shm", .number = TMPFS_MAGIC},
        {"dev_is_not_ours", devices_is_owned_by_root, .text = "/dev"},
        {"create", devices_no_create},
        NODE("null", 1, 3),
        NODE("zero", 1, 5),
        NODE("full", 1, 7),
        NODE("random", 1, 8),
        NODE("urandom", 1, 9),
        NODE("tty", 5, 0),
        {"terminals_of_its_own", devices_own_terminals},
        NO_DEVICE("console", "/dev/console"),
        NO_DEVICE("tty1", "/dev/tty1"),
        NO_DEVICE("mem", "/dev/mem"),
        NO_DEVICE("kmsg", "/dev/kmsg"),
        NO_DEVICE("fuse", "/dev/fuse"),
        NO_DEVICE("kvm", "/dev/kvm"),
        NO_DEVICE("tun", "/dev/net/tun"),
        NO_DEVICE("loop", "/dev/loop-control"),
        NO_DEVICE("vsock", "/dev/vsock"),
        NO_DEVICE("userfaultfd", "/dev/userfaultfd"),
        NO_DEVICE("autofs", "/dev/autofs"),
        NO_DEVICE("device_mapper", "/dev/mapper/control"),
        {"mknod_mem", devices_mknod, .number = S_IFCHR, .args = {1, 1}},
        {"mknod_null", devices_mknod, .number = S_IFCHR, .args = {1, 3}},
        {"mknod_disk", devices_mknod, .number = S_IFBLK, .args = {8, 0}},
        {"mknod_whiteout", devices_mknod, .number = S_IFCHR, .args = {0, 0}},
        {"mknodat_mem", devices_mknodat, .number = S_IFCHR, .args = {1, 1}},
        {"mknodat_whiteout", devices_mknodat, .number = S_IFCHR, .args = {0, 0}},
};

const Class class_devices = CLASS("devices", "what stands in /dev, and making more", checks);
