/*
 * /proc and /sys: what the kernel shows and lets be changed
 *
 * CVE-2025-31133 and CVE-2025-52565: a mask was made from a path that could be replaced by a link,
 * so that something else stood over the file, or nothing. CVE-2025-52881 (and CVE-2019-16884): the
 * runtime's writes below /proc were led elsewhere. CVE-2022-0492, and every "write core_pattern"
 * since: a file of the kernel that runs a program of the host.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "conformance.h"

/* ---- /proc is what it claims to be ---- */

static Verdict proc_is_procfs(const Check *c) {
        struct statfs s = {0};
        int fd = open(c->text, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
                return verdict_skip("this kernel has no %s", c->text);
        (void)fstatfs(fd, &s);
        return verdict_expect(s.f_type == PROC_SUPER_MAGIC, "the kernel's own", "%s of type %#lx",
                              c->text, (unsigned long)s.f_type);
}

static Verdict proc_is_read_only(const Check *c) {
        struct statvfs s = {0};

        if (statvfs(c->text, &s) < 0)
                return verdict_skip("this kernel has no %s", c->text);
        return verdict_denied("writing", s.f_flag & ST_RDONLY ? -1 : 0);
}

static bool proc_is_empty_directory(const char *path) {
        DIR *d = opendir(path);
        int n = 0;

        while (d && readdir(d))
                n++;
        if (d)
                closedir(d);
        return n <= 2;
}

static bool proc_is_honest_mask(const char *path) {
        struct stat st;
        struct statfs s;

        if (lstat(path, &st) < 0)
                return errno == EACCES || errno == EPERM || errno == ENOENT;
        if (statfs(path, &s) == 0 && s.f_type == PROC_SUPER_MAGIC)
                return true; /* a part of /proc itself, made read-only */
        if (S_ISCHR(st.st_mode))
                return st.st_rdev == makedev(1, 3);
        if (S_ISREG(st.st_mode))
                return st.st_size == 0 || st.st_size == 36 || st.st_size == 37; /* a UUID */
        return S_ISDIR(st.st_mode) && proc_is_empty_directory(path);
}

static bool proc_find_false_mask(const Mount *m, void *data) {
        if (strncmp(m->point, "/proc/", 6) != 0 || proc_is_honest_mask(m->point))
                return false;
        snprintf(data, 512, "%s", m->point);
        return true;
}

/* Over a masked file stands nothing, /dev/null itself, or /proc: never a link or a host's file. */
static Verdict proc_masks(const Check *c) {
        char found[512] = "";
        bool bad = probe_mounts(proc_find_false_mask, found);

        return verdict_expect(!bad, "masks that are empty", "another file over %s", found);
}

static bool proc_find_second(const Mount *m, void *data) {
        int *n = data;

        *n += strcmp(m->type, "proc") == 0 && strcmp(m->root, "/") == 0;
        return false;
}

static Verdict proc_is_one(const Check *c) {
        int n = 0;

        (void)probe_mounts(proc_find_second, &n);
        return verdict_expect(n == 1, "one /proc", "%d", n);
}

static Verdict proc_umount(const Check *c) {
        struct stat st;

        if (lstat(c->text, &st) < 0)
                return verdict_denied(c->text, -1);
        /* MNT_EXPIRE marks first and removes at a second call only */
        return verdict_refused("umount", umount2(c->text, MNT_EXPIRE));
}

/* Some files may be opened by anybody, and judge what is written. @args: what that is. */
static Verdict proc_write(const Check *c) {
        const char *words = (const char *)c->args[0];
        int fd = open(c->text, O_WRONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? fd : write(fd, words, strlen(words));

        if (n < 0 && errno == EROFS)
                errno = EACCES;
        return verdict_refused(c->text, n);
}

/* ---- what it hides ---- */

static Verdict proc_boot_id(const Check *c) {
        char text[64] = "";

        (void)probe_read("/proc/sys/kernel/random/boot_id", text, sizeof text);
        return verdict_denied("the host's boot id", strstr(text, facts[FACT_BOOT_ID]) ? 0 : -1);
}

static Verdict proc_cmdline(const Check *c) {
        char text[4096] = "", want[4096];

        snprintf(want, sizeof want, "%s", facts[FACT_CMDLINE]);
        want[strcspn(want, "\n")] = 0;
        (void)probe_read("/proc/cmdline", text, sizeof text);
        return verdict_denied("reading the kernel's command line",
                              *want && strstr(text, want) ? 0 : -1);
}

static Verdict proc_cmdline_is_empty(const Check *c) {
        char text[64] = "";

        return verdict_denied("reading the kernel's command line",
                              probe_read("/proc/cmdline", text, sizeof text) > 0 ? 0 : -1);
}

/* Every line of a list of addresses begins with zeros. */
static Verdict proc_addresses(const Check *c) {
        char line[512];
        int bad = 0;
        FILE *f = fopen(c->text, "re");

        while (f && fgets(line, sizeof line, f))
                if (c->number == 0)
                        bad += strtoull(line, NULL, 16) != 0;
                else
                        bad += strstr(line, " 0x0000000000000000") == NULL;
        if (f)
                fclose(f);
        return verdict_expect(bad == 0, "addresses that are zero", "%d others in %s", bad, c->text);
}

static Verdict proc_page_frames(const Check *c) {
        uint64_t entry = 0;
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        uintptr_t at = (uintptr_t)&entry / 4096 * 8;

        if (fd >= 0 && pread(fd, &entry, sizeof entry, (off_t)at) != sizeof entry)
                entry = 0;
        return verdict_expect((entry & ((UINT64_C(1) << 55) - 1)) == 0, "no page frame number",
                              "%#llx", (unsigned long long)entry);
}

static Verdict proc_hides_processes(const Check *c) {
        DIR *d = opendir("/proc");
        struct dirent *e;
        unsigned foreign = 0;
        struct stat st;

        while (d && (e = readdir(d)))
                if (strtol(e->d_name, NULL, 10) > 0 && fstatat(dirfd(d), e->d_name, &st, 0) == 0)
                        foreign += st.st_uid != getuid();
        if (d)
                closedir(d);
        return verdict_expect(d && foreign == 0, "processes of our own id only", "%u others",
                              foreign);
}

/* Its own root, or a part of it that init made; never a way up, or a path of the host. */
static bool proc_is_own_group(const char *line) {
        const char *path = strrchr(line, ':');

        return path && path[1] == '/' && !strchr(path + 2, '/') && !strstr(path, "..");
}

static Verdict proc_cgroup(const Check *c) {
        char text[4096] = "", found[512] = "";

        (void)probe_read("/proc/self/cgroup", text, sizeof text);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                if (!proc_is_own_group(line))
                        snprintf(found, sizeof found, "%s", line);
        return verdict_expect(!*found, "a group that is its own root", "'%s'", found);
}

static Verdict proc_shows_no_marker(const Check *c) {
        int found = probe_contains(c->text, facts[c->needs]);

        return verdict_expect(found <= 0, "no trace of the host", "'%s' in %s", facts[c->needs],
                              c->text);
}

/* ---- its own clock ---- */

static Verdict proc_uptime(const Check *c) {
        char text[64] = "";
        struct timespec t;

        (void)probe_read("/proc/uptime", text, sizeof text);
        clock_gettime(CLOCK_BOOTTIME, &t);
        return verdict_expect(strtod(text, NULL) < 600 && t.tv_sec < 600, "the workspace's uptime",
                              "%ld s", (long)t.tv_sec);
}

static Verdict proc_btime(const Check *c) {
        char text[65536] = "";
        const char *line;
        time_t begin;

        (void)probe_read("/proc/stat", text, sizeof text);
        line = strstr(text, "btime ");
        begin = line ? strtol(line + 6, NULL, 10) : 0;
        return verdict_expect(labs(time(NULL) - begin) < 600, "a boot time of the workspace's own",
                              "%ld s ago", (long)(time(NULL) - begin));
}

#define UNWRITABLE(name_, path)                                                                    \
        { .name = "write_" name_, .run = check_unwritable, .text = (path) }
#define WRITE(name_, path, words)                                                                  \
        {                                                                                          \
                .name = "write_" name_, .run = proc_write, .text = (path), .args = { ARG(words) }  \
        }
#define UNREADABLE(name_, path)                                                                    \
        { .name = "read_" name_, .run = check_unreadable, .text = (path) }
#define MARKER(name_, path, fact)                                                                  \
        { .name = (name_), .run = proc_shows_no_marker, .needs = (fact), .text = (path) }

static const Check checks[] = {
        {"is_procfs", proc_is_procfs, .text = "/proc"},
        {"sys_is_procfs", proc_is_procfs, .text = "/proc/sys"},
        {"self_attr_is_procfs", proc_is_procfs, .text = "/proc/self/attr"},
        {"self_fd_is_procfs", proc_is_procfs, .text = "/proc/self/fd"},
        {"is_one", proc_is_one},
        /* An inner sandbox may mount a /proc only where nothing of ours is covered. */
        {"sys_is_read_only", proc_is_read_only, TRAIT_NESTING, .text = "/proc/sys"},
        {"sysrq_is_read_only", proc_is_read_only, TRAIT_NESTING, .text = "/proc/sysrq-trigger"},
        {"irq_is_read_only", proc_is_read_only, TRAIT_NESTING, .text = "/proc/irq"},
        {"bus_is_read_only", proc_is_read_only, TRAIT_NESTING, .text = "/proc/bus"},
        {"fs_is_read_only", proc_is_read_only, TRAIT_NESTING, .text = "/proc/fs"},
        {"masks_are_honest", proc_masks},
        {"umount_proc", proc_umount, .text = "/proc"},
        {"umount_mask", proc_umount, .text = "/proc/kcore"},
        {"umount_sys", proc_umount, .text = "/proc/sys"},

        UNWRITABLE("core_pattern", "/proc/sys/kernel/core_pattern"),
        UNWRITABLE("modprobe", "/proc/sys/kernel/modprobe"),
        UNWRITABLE("usermodehelper", "/proc/sys/kernel/usermodehelper/bset"),
        UNWRITABLE("hostname", "/proc/sys/kernel/hostname"),
        UNWRITABLE("domainname", "/proc/sys/kernel/domainname"),
        UNWRITABLE("sysrq", "/proc/sys/kernel/sysrq"),
        WRITE("ns_last_pid", "/proc/sys/kernel/ns_last_pid", "300"),
        UNWRITABLE("panic", "/proc/sys/kernel/panic"),
        UNWRITABLE("printk", "/proc/sys/kernel/printk"),
        UNWRITABLE("shmmax", "/proc/sys/kernel/shmmax"),
        UNWRITABLE("msgmax", "/proc/sys/kernel/msgmax"),
        UNWRITABLE("unprivileged_bpf", "/proc/sys/kernel/unprivileged_bpf_disabled"),
        UNWRITABLE("randomize_va_space", "/proc/sys/kernel/randomize_va_space"),
        UNWRITABLE("drop_caches", "/proc/sys/vm/drop_caches"),
        UNWRITABLE("overcommit", "/proc/sys/vm/overcommit_memory"),
        UNWRITABLE("panic_on_oom", "/proc/sys/vm/panic_on_oom"),
        UNWRITABLE("protected_links", "/proc/sys/fs/protected_symlinks"),
        UNWRITABLE("suid_dumpable", "/proc/sys/fs/suid_dumpable"),
        UNWRITABLE("binfmt_misc", "/proc/sys/fs/binfmt_misc/register"),
        UNWRITABLE("mqueue", "/proc/sys/fs/mqueue/queues_max"),
        UNWRITABLE("ip_forward", "/proc/sys/net/ipv4/ip_forward"),
        UNWRITABLE("ping_group_range", "/proc/sys/net/ipv4/ping_group_range"),
        UNWRITABLE("unprivileged_ports", "/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        UNWRITABLE("max_user_namespaces", "/proc/sys/user/max_user_namespaces"),
        UNWRITABLE("sysrq_trigger", "/proc/sysrq-trigger"),
        UNWRITABLE("irq_affinity", "/proc/irq/default_smp_affinity"),
        WRITE("timens_offsets", "/proc/self/timens_offsets", "boottime 1000 0"),
        UNWRITABLE("mtrr", "/proc/mtrr"),
        UNWRITABLE("slabinfo", "/proc/slabinfo"),
        UNWRITABLE("acpi", "/proc/acpi/wakeup"),
        UNWRITABLE("scsi", "/proc/scsi/scsi"),

        UNREADABLE("kcore", "/proc/kcore"),
        UNREADABLE("kmsg", "/proc/kmsg"),
        UNREADABLE("kpagecount", "/proc/kpagecount"),
        UNREADABLE("kpageflags", "/proc/kpageflags"),
        UNREADABLE("kpagecgroup", "/proc/kpagecgroup"),
        UNREADABLE("timer_list", "/proc/timer_list"),
        UNREADABLE("sched_debug", "/proc/sched_debug"),
        UNREADABLE("latency_stats", "/proc/latency_stats"),
        UNREADABLE("slabinfo", "/proc/slabinfo"),
        UNREADABLE("vmallocinfo", "/proc/vmallocinfo"),
        UNREADABLE("pagetypeinfo", "/proc/pagetypeinfo"),
        UNREADABLE("own_stack", "/proc/self/stack"),
        UNREADABLE("sys_kernel_debug", "/sys/kernel/debug/sched/debug"),
        {"read_cmdline", proc_cmdline_is_empty, TRAIT_NESTING},
        {"read_diskstats", check_unreadable, TRAIT_NESTING, .text = "/proc/diskstats"},
        {"read_partitions", check_unreadable, TRAIT_NESTING, .text = "/proc/partitions"},
        {"read_interrupts", check_unreadable, TRAIT_NESTING, .text = "/proc/interrupts"},
        {"read_softirqs", check_unreadable, TRAIT_NESTING, .text = "/proc/softirqs"},
        {"read_key_users", check_unreadable, TRAIT_NESTING, .text = "/proc/key-users"},
        {"cmdline_of_the_host", proc_cmdline, TRAIT_NESTING, .needs = FACT_CMDLINE},
        {"boot_id_of_the_host", proc_boot_id, TRAIT_NESTING, .needs = FACT_BOOT_ID},
        {"kallsyms_addresses", proc_addresses, .text = "/proc/kallsyms"},
        {"iomem_addresses", proc_addresses, .text = "/proc/iomem"},
        {"modules_addresses", proc_addresses, .text = "/proc/modules", .number = 1},
        {"page_frames", proc_page_frames},
        {"other_processes", proc_hides_processes},
        {"uptime", proc_uptime},
        {"boot_time", proc_btime},
        {"cgroup_path", proc_cgroup},
        MARKER("mounts_of_the_host", "/proc/self/mounts", FACT_MARKER),
        MARKER("mountinfo_of_the_host", "/proc/self/mountinfo", FACT_MARKER),
        MARKER("mountstats_of_the_host", "/proc/self/mountstats", FACT_MARKER),
        MARKER("sockets_of_the_host", "/proc/net/unix", FACT_ABSTRACT),

        {"no_sys", check_absent, .text = "/sys/kernel"},
        {"no_sys_firmware", check_absent, .text = "/sys/firmware"},
        {"no_sys_block", check_absent, .text = "/sys/block"},
        {"no_cgroupfs", check_absent, .text = "/sys/fs/cgroup"},
        {"no_debugfs", check_absent, .text = "/sys/kernel/debug"},
        UNWRITABLE("uevent_helper", "/sys/kernel/uevent_helper"),
};

const Class class_proc = CLASS("proc", "what /proc and /sys show, and let be changed", checks);
