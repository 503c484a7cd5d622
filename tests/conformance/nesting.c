/*
 * Root of a user namespace that the harness made: all capabilities, and nothing of the host's
 *
 * Only where the profile has 'nesting: yes'. Each check runs as that root, in a mount namespace of
 * its own.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

static bool nesting_write(const char *path, const char *text) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

        if (fd >= 0)
                close(fd);
        return ok;
}

/* Become root of new namespaces, as an inner sandbox does. */
static bool nesting_enter(int flags) {
        char map[64];
        uid_t uid = getuid();
        gid_t gid = getgid();

        if (unshare(CLONE_NEWUSER | flags) < 0)
                return false;
        (void)nesting_write("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", uid);
        if (!nesting_write("/proc/self/uid_map", map))
                return false;
        snprintf(map, sizeof map, "0 %u 1", gid);
        return nesting_write("/proc/self/gid_map", map);
}

static Verdict nesting_fail(void) {
        return verdict_expect(false, "a user namespace", "%s", errno_name(errno));
}

static Verdict nesting_root(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return verdict_expect(getuid() == 0, "uid 0 inside", "%u", getuid());
}

/* More ids than one's own need a helper with a privilege: newuidmap(1). */
static Verdict nesting_foreign_ids(const Check *c) {
        if (unshare(CLONE_NEWUSER) < 0)
                return nesting_fail();
        errno = EPERM;
        return verdict_refused("a map of 65,536 ids",
                               nesting_write("/proc/self/uid_map", "0 0 65536") ? 0 : -1);
}

/* CVE-2014-8989: without "deny" before, a group map would let groups be dropped. */
static Verdict nesting_groups_first(const Check *c) {
        char map[64];

        snprintf(map, sizeof map, "0 %u 1", getgid());
        if (unshare(CLONE_NEWUSER) < 0)
                return nesting_fail();
        errno = EPERM;
        return verdict_refused("a group map before setgroups is denied",
                               nesting_write("/proc/self/gid_map", map) ? 0 : -1);
}

static Verdict nesting_mount_tmpfs(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return verdict_worked("mount", mount("tmpfs", "/tmp", "tmpfs", 0, NULL));
}

/* What a browser's and an inner container's sandbox need: a /proc of their own. */
static Verdict nesting_mount_proc(const Check *c) {
        pid_t pid;

        if (!nesting_enter(CLONE_NEWNS | CLONE_NEWPID))
                return nesting_fail();
        pid = fork();
        if (pid == 0)
                _exit(mount("proc", "/proc", "proc", 0, NULL) < 0 ? errno : 0);
        errno = probe_await(pid);
        return verdict_worked("mount of proc", errno ? -1 : 0);
}

/* A mount that came from outside is locked: neither removed nor made weaker. */
static Verdict nesting_umount_locked(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return verdict_denied("umount", umount2(c->text, MNT_DETACH));
}

static Verdict nesting_remount_locked(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return verdict_refused("remount", mount(NULL, c->text, NULL, MS_REMOUNT | MS_BIND, NULL));
}

static Verdict nesting_device(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        (void)mount("tmpfs", scratch, "tmpfs", 0, NULL);
        return verdict_refused("mknod", mknod(probe_path("node"), S_IFBLK | 0600, makedev(8, 0)));
}

static Verdict nesting_sysctl(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return check_unwritable(c);
}

static Verdict nesting_call(const Check *c) {
        if (!nesting_enter(CLONE_NEWNS))
                return nesting_fail();
        return check_call(c);
}

/* The capability is over a network that was made with the user namespace, not over the old one. */
static Verdict nesting_outer_network(const Check *c) {
        struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        if (!nesting_enter(0))
                return nesting_fail();
        return verdict_refused("SIOCSIFFLAGS", ioctl(fd, SIOCSIFFLAGS, &request));
}

static Verdict nesting_outer_raw_socket(const Check *c) {
        if (!nesting_enter(0))
                return nesting_fail();
        return verdict_refused("a raw socket", socket(AF_INET, SOCK_RAW, 1));
}

/*
 * CVE-2022-0492: a hierarchy's release_agent is a program of the host. It may be mounted, as the
 * root of our cgroup namespace; what stands there stays the host's. @text: file system and options,
 * @args: the file.
 */
static Verdict nesting_cgroup(const Check *c) {
        Check file = {.name = c->name, .text = probe_path((const char *)c->args[0])};
        const char *options = c->number ? "memory" : NULL;

        if (!nesting_enter(CLONE_NEWNS | CLONE_NEWCGROUP))
                return nesting_fail();
        if (mount("cgroup", scratch, c->text, 0, options) < 0)
                return verdict_denied("mount of cgroup", -1);
        return check_unwritable(&file);
}

#define CGROUP(name_, type, v1, file)                                                              \
        {                                                                                          \
                .name = (name_), .run = nesting_cgroup, .only = TRAIT_NESTING, .text = (type),     \
                .number = (v1), .args = {                                                          \
                        ARG(file)                                                                  \
                }                                                                                  \
        }

static const Check checks[] = {
        {"root_of_its_own", nesting_root, .only = TRAIT_NESTING},
        {"foreign_ids", nesting_foreign_ids, .only = TRAIT_NESTING},
        {"groups_stay", nesting_groups_first, .only = TRAIT_NESTING},
        {"mount_tmpfs", nesting_mount_tmpfs, .only = TRAIT_NESTING},
        {"mount_proc", nesting_mount_proc, .only = TRAIT_NESTING},
        {"umount_usr", nesting_umount_locked, .only = TRAIT_NESTING, .text = "/usr"},
        {"umount_proc", nesting_umount_locked, .only = TRAIT_NESTING, .text = "/proc"},
        {"remount_usr_writable", nesting_remount_locked, .only = TRAIT_NESTING, .text = "/usr"},
        {"remount_run_with_devices", nesting_remount_locked, .only = TRAIT_NESTING, .text = "/run"},
        {"device", nesting_device, .only = TRAIT_NESTING},
        {"core_pattern", nesting_sysctl, .only = TRAIT_NESTING,
         .text = "/proc/sys/kernel/core_pattern"},
        {"sysrq", nesting_sysctl, .only = TRAIT_NESTING, .text = "/proc/sysrq-trigger"},
        {"kcore", check_unreadable, .only = TRAIT_NESTING, .text = "/proc/kcore"},
        {"host_name", nesting_call, .only = TRAIT_NESTING, .number = SYS_sethostname,
         .args = {ARG("x"), 1}},
        {"clock", nesting_call, .only = TRAIT_NESTING, .number = SYS_settimeofday},
        {"kernel_log", nesting_call, .only = TRAIT_NESTING, .number = SYS_syslog, .args = {3}},
        {"modules", nesting_call, .only = TRAIT_NESTING, .number = SYS_delete_module,
         .args = {ARG("none")}},
        {"outer_network", nesting_outer_network, .only = TRAIT_NESTING},
        {"outer_raw_socket", nesting_outer_raw_socket, .only = TRAIT_NESTING},
        CGROUP("cgroup_release_agent", "cgroup", true, "release_agent"),
        CGROUP("cgroup_notify", "cgroup", true, "notify_on_release"),
        CGROUP("cgroup_limit", "cgroup", true, "memory.limit_in_bytes"),
        CGROUP("cgroup_members", "cgroup", true, "cgroup.procs"),
        CGROUP("cgroup2_limit", "cgroup2", false, "memory.max"),
        CGROUP("cgroup2_members", "cgroup2", false, "cgroup.procs"),
        CGROUP("cgroup2_controllers", "cgroup2", false, "cgroup.subtree_control"),
        CGROUP("cgroup2_kill", "cgroup2", false, "cgroup.kill"),
};

const Class class_nesting = CLASS("nesting", "root of an inner user namespace", checks);
