/*
 * Who the harness is: ids, capabilities, no_new_privs, the filter, and every way to become more
 *
 * Source: credentials(7), capabilities(7), user_namespaces(7).
 */
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "conformance.h"

static Verdict identity_user(const Check *c) {
        uid_t r, e, s;

        getresuid(&r, &e, &s);
        return verdict_expect(r && r == e && r == s, "one uid that is not 0", "%u, %u, %u", r, e,
                              s);
}

static Verdict identity_group(const Check *c) {
        gid_t r, e, s;

        getresgid(&r, &e, &s);
        return verdict_expect(r && r == e && r == s, "one gid that is not 0", "%u, %u, %u", r, e,
                              s);
}

static Verdict identity_supplementary(const Check *c) {
        int n = getgroups(0, NULL);

        return verdict_expect(n == 0, "no supplementary group", "%d", n);
}

/* @text: the field of the status file. */
static Verdict identity_status(const Check *c) {
        char value[64] = "nothing";

        (void)probe_field("/proc/self/status", c->text, value, sizeof value);
        return verdict_expect(strtoull(value, NULL, 16) == (unsigned long long)c->number &&
                                      *value != 'n',
                              c->number ? "it set" : "it empty", "%s %s", c->text, value);
}

static Verdict identity_bounding_by_prctl(const Check *c) {
        int cap, kept = 0;

        for (cap = 0; cap < 64; cap++)
                kept += prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1;
        return verdict_expect(kept == 0, "an empty bounding set", "%d capabilities in it", kept);
}

static Verdict identity_no_new_privs_stays(const Check *c) {
        int r = prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0);

        return verdict_expect(r < 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1,
                              "no_new_privs that stays", "that it is off");
}

/* One capability that root has: what the kernel says to nonsense proves nothing. */
#define IDENTITY_CAPABILITY (1u << CAP_CHOWN)

static long identity_set_capability(uint32_t effective, uint32_t permitted, uint32_t inheritable) {
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {
                {.effective = effective, .permitted = permitted, .inheritable = inheritable}};

        return syscall(SYS_capset, &header, data);
}

static Verdict identity_ambient(const Check *c) {
        (void)identity_set_capability(0, IDENTITY_CAPABILITY, IDENTITY_CAPABILITY);
        return verdict_refused("PR_CAP_AMBIENT_RAISE",
                               prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}

/* @args: effective, permitted, inheritable. */
static Verdict identity_capset(const Check *c) {
        return verdict_refused("capset",
                               identity_set_capability((uint32_t)c->args[0], (uint32_t)c->args[1],
                                                       (uint32_t)c->args[2]));
}

static Verdict identity_fsuid(const Check *c) {
        (void)setfsuid(0);
        return verdict_expect(setfsuid((uid_t)-1) != 0, "a file system uid that stays", "0");
}

static Verdict identity_fsgid(const Check *c) {
        (void)setfsgid(0);
        return verdict_expect(setfsgid((gid_t)-1) != 0, "a file system gid that stays", "0");
}

static Verdict identity_setgroups(const Check *c) {
        const gid_t groups[] = {0, 5, 6, 27};

        return verdict_refused("setgroups", setgroups(ELEMENTSOF(groups), groups));
}

/* CVE-2014-8989: dropping a group to get past a file that forbids it. */
static Verdict identity_drop_groups(const Check *c) {
        return verdict_refused("setgroups(0)", setgroups(0, NULL));
}

/* Each of the map files, written as an attacker would; a written one cannot be written again. */
static Verdict identity_write(const Check *c) {
        int fd = open(c->text, O_WRONLY | O_CLOEXEC);
        const char *line = c->number ? "allow" : "0 0 65536\n";

        return verdict_refused(c->text, fd < 0 ? -1 : write(fd, line, strlen(line)));
}

/* Root of the host, or a host that is the workspace's size of all ids, must be in no map. */
static Verdict identity_map(const Check *c) {
        unsigned long line[3], lowest = ULONG_MAX;
        char text[4096] = "";

        (void)probe_read(c->text, text, sizeof text);
        for (char *at = strtok(text, "\n"); at; at = strtok(NULL, "\n"))
                if (probe_numbers(at, line, 3) == 3 && line[1] < lowest)
                        lowest = line[1];
        return verdict_expect(lowest != ULONG_MAX && lowest >= 65536,
                              "ids of the workspace's own range", "a map from host id %lu", lowest);
}

/* ---- set-user-id programs ---- */

static const char *const identity_setuid_programs[] = {
        "/usr/bin/su",          "/usr/bin/mount",  "/usr/bin/passwd",
        "/usr/bin/chfn",        "/usr/bin/sudo",   "/usr/bin/newgrp",
        "/usr/bin/fusermount3", "/usr/bin/umount", "/usr/bin/chsh",
        "/usr/bin/gpasswd",     "/bin/su",         "/bin/ping",
};

static const char *identity_find_setuid(void) {
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(identity_setuid_programs); i++)
                if (stat(identity_setuid_programs[i], &st) == 0 && st.st_mode & S_ISUID)
                        return identity_setuid_programs[i];
        return NULL;
}

/* Its output blocks in a full pipe, so that there is time to look at it. */
static pid_t identity_start_blocked(const char *program) {
        static const char filler[4096];
        int ends[2], flags;
        pid_t pid;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -1;
        flags = fcntl(ends[1], F_GETFL);
        (void)fcntl(ends[1], F_SETFL, flags | O_NONBLOCK);
        while (write(ends[1], filler, sizeof filler) > 0)
                ;
        (void)fcntl(ends[1], F_SETFL, flags);
        pid = fork();
        if (pid == 0) {
                dup2(ends[1], 1);
                dup2(ends[1], 2);
                execl(program, program, "--help", (char *)NULL);
                _exit(127);
        }
        return pid;
}

/* Return: whether @pid executes another program than we do. */
static bool identity_has_executed(pid_t pid) {
        char path[64], own[PATH_MAX] = "", other[PATH_MAX] = "";

        snprintf(path, sizeof path, "/proc/%d/comm", pid);
        (void)probe_read("/proc/self/comm", own, sizeof own);
        return probe_read(path, other, sizeof other) <= 0 || strcmp(own, other) != 0;
}

static Verdict identity_setuid_program(const Check *c) {
        const char *program = identity_find_setuid();
        char path[64], ids[64] = "hidden ids, not its parent's";
        unsigned long uids[4];
        pid_t pid;

        if (!program)
                return verdict_skip("this image has no set-user-id program");
        pid = identity_start_blocked(program);
        snprintf(path, sizeof path, "/proc/%d/status", pid);
        while (!identity_has_executed(pid))
                usleep(1000);
        (void)probe_field(path, "Uid", ids, sizeof ids);
        probe_end(pid);
        return verdict_expect(probe_numbers(ids, uids, 4) == 4 && uids[1] == getuid() &&
                                      uids[2] == getuid() && uids[1],
                              "our own ids", "%s of %s", ids, program);
}

static Verdict identity_file_capability(const Check *c) {
        const struct vfs_cap_data all = {.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE,
                                         .data = {{.permitted = ~0u}, {.permitted = ~0u}}};
        int fd = probe_make("capable", "#!/bin/sh\n", 0755);

        return verdict_refused("security.capability",
                               fsetxattr(fd, "security.capability", &all, sizeof all, 0));
}

static Verdict identity_filter_over_exec(const Check *c) {
        char text[256] = "";
        int status = probe_shell("grep Seccomp: /proc/self/status", text, sizeof text);

        return verdict_expect(status == 0 && strchr(text, '2'), "the filter behind exec, too",
                              "'%s'", text);
}

static Verdict identity_umask(const Check *c) {
        return verdict_expect((start.umask & 022) == 022 && (start.umask & 0700) == 0,
                              "a umask that keeps others from writing", "%03o", start.umask);
}

static Verdict identity_oom(const Check *c) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        return verdict_refused("oom_score_adj -1", fd < 0 ? -1 : write(fd, "-1", 2));
}

#define STATUS(name_, field, value)                                                                \
        { .name = (name_), .run = identity_status, .text = (field), .number = (value) }

static const Check checks[] = {
        {"user", identity_user},
        {"group", identity_group},
        {"no_supplementary_groups", identity_supplementary},
        STATUS("inheritable_is_empty", "CapInh", 0),
        STATUS("permitted_is_empty", "CapPrm", 0),
        STATUS("effective_is_empty", "CapEff", 0),
        STATUS("bounding_is_empty", "CapBnd", 0),
        STATUS("ambient_is_empty", "CapAmb", 0),
        {"bounding_by_prctl", identity_bounding_by_prctl},
        STATUS("no_new_privs", "NoNewPrivs", 1),
        {"no_new_privs_stays", identity_no_new_privs_stays},
        STATUS("filter_mode", "Seccomp", 2),
        {"filter_over_exec", identity_filter_over_exec},
        STATUS("nobody_traces_us", "TracerPid", 0),
        {"ambient_raise", identity_ambient},
        {"capset_effective", identity_capset,
         .args = {IDENTITY_CAPABILITY, IDENTITY_CAPABILITY, 0}},
        {"capset_permitted", identity_capset, .args = {0, IDENTITY_CAPABILITY, 0}},
        {"capset_inheritable", identity_capset, .args = {0, 0, IDENTITY_CAPABILITY}},
        REFUSED("setuid", SYS_setuid, 0),
        REFUSED("setgid", SYS_setgid, 0),
        REFUSED("setreuid", SYS_setreuid, 0, 0),
        REFUSED("setregid", SYS_setregid, 0, 0),
        REFUSED("setresuid", SYS_setresuid, -1, 0, -1),
        REFUSED("setresgid", SYS_setresgid, -1, 0, -1),
        {"setfsuid", identity_fsuid},
        {"setfsgid", identity_fsgid},
        {"setgroups", identity_setgroups},
        {"setgroups_none", identity_drop_groups},
        REFUSED("securebits", SYS_prctl, PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NOROOT),
        REFUSED("bounding_drop", SYS_prctl, PR_CAPBSET_DROP, CAP_SYS_BOOT),
        {"write_uid_map", identity_write, .text = "/proc/self/uid_map"},
        {"write_gid_map", identity_write, .text = "/proc/self/gid_map"},
        {"write_projid_map", identity_write, .text = "/proc/self/projid_map"},
        {"write_setgroups", identity_write, .text = "/proc/self/setgroups", .number = 1},
        {"uid_map_is_a_range_of_its_own", identity_map, .text = "/proc/self/uid_map"},
        {"gid_map_is_a_range_of_its_own", identity_map, .text = "/proc/self/gid_map"},
        {"setuid_program_gives_nothing", identity_setuid_program},
        {"file_capability", identity_file_capability},
        {"umask", identity_umask},
        {"oom_score", identity_oom},
};

const Class class_identity = CLASS("identity", "ids, capabilities, and ways to get more", checks);
