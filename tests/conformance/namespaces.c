/*
 * Namespaces: ours are not the host's, nobody may make more, and none of them is ours to command
 *
 * The last is what carries the wall: a namespace's owner is the user namespace it was made in
 * (NS_GET_USERNS). If that is outside of ours, root inside may not mount, configure a link or set a
 * host name, whatever the filter lets through. Most escapes of the last years begin with unshare:
 * CVE-2022-0185 (fsconfig), CVE-2022-0492 (cgroup), CVE-2022-2588, CVE-2023-32233 and CVE-2024-1086
 * (network), CVE-2023-0386 (overlay).
 */
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

/* @text: a name below /proc/self/ns. */
static Verdict namespaces_own(const Check *c) {
        char path[64], link[64] = "";

        snprintf(path, sizeof path, "/proc/self/ns/%s", c->text);
        if (readlink(path, link, sizeof link - 1) < 0)
                return verdict_skip("this kernel has no %s", path);
        return verdict_expect(!strstr(facts[FACT_NAMESPACES], link), "a namespace of its own",
                              "the host's %s", link);
}

static Verdict namespaces_unshare(const Check *c) {
        return verdict_refused(c->name, unshare((int)c->number));
}

/* As clone(2): a child in a namespace of its own, which ends at once. */
static Verdict namespaces_clone(const Check *c) {
        long pid = syscall(SYS_clone, (unsigned long)c->number | SIGCHLD, NULL, NULL, NULL, 0);

        if (pid == 0)
                _exit(0);
        return verdict_refused(c->name, pid);
}

static long namespaces_ioctl(const char *name, unsigned long request) {
        char path[64];
        int fd;

        snprintf(path, sizeof path, "/proc/self/ns/%s", name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? fd : ioctl(fd, request);
}

static Verdict namespaces_owner(const Check *c) {
        return verdict_refused("its owner", namespaces_ioctl(c->text, NS_GET_USERNS));
}

static Verdict namespaces_parent(const Check *c) {
        return verdict_refused("its parent", namespaces_ioctl(c->text, NS_GET_PARENT));
}

static Verdict namespaces_enter(const Check *c) {
        int fd = open(c->text, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return verdict_denied(c->text, fd);
        return verdict_refused("setns", setns(fd, (int)c->number));
}

static Verdict namespaces_enter_by_pidfd(const Check *c) {
        int fd = (int)syscall(SYS_pidfd_open, 1, 0);

        if (fd < 0)
                return verdict_denied("pidfd_open", fd);
        return verdict_refused("setns", setns(fd, CLONE_NEWNS | CLONE_NEWPID));
}

/* Bits that the kernel ignores must not hide those that it reads. */
static Verdict namespaces_high_bits(const Check *c) {
        unsigned long flags = CLONE_NEWUSER | SIGCHLD | 1UL << 40;
        long pid = syscall(SYS_clone, flags, NULL, NULL, NULL, 0);

        if (pid == 0)
                _exit(0);
        return verdict_refused("clone", pid);
}

static Verdict namespaces_host_name(const Check *c) {
        char name[256] = "";

        (void)gethostname(name, sizeof name - 1);
        return verdict_expect(strcmp(name, facts[FACT_HOSTNAME]) != 0, "a name of its own",
                              "the host's, '%s'", name);
}

#define OWN(name_)                                                                                 \
        { .name = "own_" name_, .run = namespaces_own, .needs = FACT_NAMESPACES, .text = (name_) }
#define UNSHARE(name_, flag)                                                                       \
        { .name = "unshare_" name_, .run = namespaces_unshare, .number = (flag) }
#define CLONE(name_, flag)                                                                         \
        { .name = "clone_" name_, .run = namespaces_clone, .number = (flag) }
#define OWNER(name_)                                                                               \
        { .name = name_ "_is_owned_outside", .run = namespaces_owner, .text = (name_) }

static const Check checks[] = {
        OWN("user"),
        OWN("mnt"),
        OWN("pid"),
        OWN("net"),
        OWN("ipc"),
        OWN("uts"),
        OWN("cgroup"),
        OWN("time"),
        OWNER("mnt"),
        OWNER("pid"),
        OWNER("net"),
        OWNER("ipc"),
        OWNER("uts"),
        OWNER("cgroup"),
        OWNER("time"),
        OWNER("user"),
        {"user_has_no_parent_here", namespaces_parent, .text = "user"},
        {"pid_has_no_parent_here", namespaces_parent, .text = "pid"},
        UNSHARE("mnt", CLONE_NEWNS),
        UNSHARE("pid", CLONE_NEWPID),
        UNSHARE("net", CLONE_NEWNET),
        UNSHARE("ipc", CLONE_NEWIPC),
        UNSHARE("uts", CLONE_NEWUTS),
        UNSHARE("cgroup", CLONE_NEWCGROUP),
        UNSHARE("time", 0x80 /* CLONE_NEWTIME */),
        {"unshare_user", namespaces_unshare, TRAIT_NESTING, .number = CLONE_NEWUSER},
        CLONE("mnt", CLONE_NEWNS),
        CLONE("pid", CLONE_NEWPID),
        CLONE("net", CLONE_NEWNET),
        CLONE("ipc", CLONE_NEWIPC),
        CLONE("uts", CLONE_NEWUTS),
        CLONE("cgroup", CLONE_NEWCGROUP),
        {"clone_user", namespaces_clone, TRAIT_NESTING, .number = CLONE_NEWUSER},
        {"clone_user_with_high_bits", namespaces_high_bits, TRAIT_NESTING},
        {"enter_own_net", namespaces_enter, .text = "/proc/self/ns/net", .number = CLONE_NEWNET},
        {"enter_own_mnt", namespaces_enter, .text = "/proc/self/ns/mnt", .number = CLONE_NEWNS},
        {"enter_mnt_of_init", namespaces_enter, .text = "/proc/1/ns/mnt", .number = CLONE_NEWNS},
        {"enter_user_of_init", namespaces_enter, .text = "/proc/1/ns/user",
         .number = CLONE_NEWUSER},
        {"enter_by_pidfd", namespaces_enter_by_pidfd},
        {"host_name", namespaces_host_name, .needs = FACT_HOSTNAME},
};

const Class class_namespaces = CLASS("namespaces", "own ones, and no more of them", checks);
