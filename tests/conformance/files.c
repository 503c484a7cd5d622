/*
 * Files and mounts: nothing of the host, no way above the root, nothing that may be remade
 *
 * CVE-2024-21626 (a working directory outside), CVE-2015-3627 and CVE-2021-30465 (mounts through
 * links), CVE-2016-5195 and CVE-2022-0847 (writing to what may only be read), CVE-2014-9322-style
 * open_by_handle_at ("shocker").
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "conformance.h"

/* ---- mounts ---- */

static bool files_has_option(const char *options, const char *name) {
        size_t n = strlen(name);

        for (const char *at = options; (at = strstr(at, name)); at += n)
                if ((at == options || at[-1] == ',') && (!at[n] || at[n] == ','))
                        return true;
        return false;
}

typedef struct FilesSearch {
        const char *option;
        bool devices; /* /dev and what is in it is meant to hold devices */
        char found[512];
} FilesSearch;

static bool files_lacks_option(const Mount *m, void *data) {
        FilesSearch *s = data;

        if (s->devices && (strcmp(m->point, "/dev") == 0 || strncmp(m->point, "/dev/", 5) == 0))
                return false;
        if (files_has_option(m->options, s->option))
                return false;
        snprintf(s->found, sizeof s->found, "%s", m->point);
        return true;
}

static Verdict files_every_mount(const Check *c) {
        FilesSearch s = {.option = c->text, .devices = c->number};
        bool bad = probe_mounts(files_lacks_option, &s);

        return verdict_expect(!bad && access("/proc/self/mountinfo", R_OK) == 0, c->text,
                              "%s without", s.found);
}

static bool files_is_of_type(const Mount *m, void *data) {
        return strncmp(m->type, data, strlen(data)) == 0;
}

static Verdict files_no_mount_of_type(const Check *c) {
        bool found = probe_mounts(files_is_of_type, (void *)(uintptr_t)c->text);

        return verdict_expect(!found, "no such mount", "one of type %s", c->text);
}

static Verdict files_has_flag(const Check *c) {
        struct statvfs s = {0};

        if (statvfs(c->text, &s) < 0)
                return verdict_expect(false, "the directory", "%s", errno_name(errno));
        return verdict_expect((s.f_flag & (unsigned long)c->number) == (unsigned long)c->number,
                              "the mount's flag", "flags %#lx of %s", s.f_flag, c->text);
}

/* ---- creating where it is not meant ---- */

static Verdict files_no_create(const Check *c) {
        char path[PATH_MAX];
        int fd;

        snprintf(path, sizeof path, "%s/.carrel-conformance-%d", c->text, getpid());
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
                unlink(path);
        return verdict_denied("making a file", fd);
}

static Verdict files_own_program(const Check *c) {
        char path[PATH_MAX] = "";
        int fd;

        (void)!readlink("/proc/self/exe", path, sizeof path - 1);
        *strrchr(path, '/') = 0;
        strncat(path, "/.carrel-conformance-probe", sizeof path - strlen(path) - 1);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0)
                unlink(path);
        return verdict_denied("writing to a read-only mount", fd);
}

/* A script of ours, in a place where nothing may be executed. */
static Verdict files_no_exec(const Check *c) {
        char path[PATH_MAX];
        int fd;
        pid_t pid;

        snprintf(path, sizeof path, "%s/carrel-conformance-%d", c->text, getpid());
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        if (fd < 0)
                return verdict_denied(path, fd);
        (void)!write(fd, "#!/bin/true\n", 12);
        close(fd);
        pid = fork();
        if (pid == 0) {
                execl(path, path, (char *)NULL);
                _exit(errno);
        }
        errno = probe_await(pid);
        unlink(path);
        return verdict_refused("executing", errno ? -1 : 0);
}

static Verdict files_no_exec_mapping(const Check *c) {
        char path[PATH_MAX];
        void *at;
        int fd;

        snprintf(path, sizeof path, "%s/carrel-conformance-%d", c->text, getpid());
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0700);
        if (fd < 0 || ftruncate(fd, 4096) < 0)
                return verdict_denied(path, -1);
        at = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        unlink(path);
        return verdict_refused("mapping executable", at == MAP_FAILED ? -1 : 0);
}

/* ---- what of the host must not be there ---- */

static Verdict files_host_file(const Check *c) {
        struct stat st;

        return verdict_denied(facts[FACT_FILE], stat(facts[FACT_FILE], &st));
}

static Verdict files_not_listed(const Check *c) {
        DIR *d = opendir(c->text);
        struct dirent *e;
        char found[256] = "";

        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.')
                        snprintf(found, sizeof found, "%s", e->d_name);
        if (d)
                closedir(d);
        return verdict_expect(!*found, "nothing of the host", "'%s' in %s", found, c->text);
}

/* ---- the root ---- */

static Verdict files_is_root(const char *what, int fd) {
        struct stat a, b;

        if (fd < 0 || fstat(fd, &a) < 0 || stat("/", &b) < 0)
                return verdict_expect(false, "the root", "%s of %s", errno_name(errno), what);
        return verdict_expect(a.st_dev == b.st_dev && a.st_ino == b.st_ino, "the root",
                              "another directory by %s", what);
}

static Verdict files_above_root(const Check *c) {
        return files_is_root(c->text, open(c->text, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* By as many ".." as there can be, from an open directory: CVE-2024-21626. */
static Verdict files_above_working_directory(const Check *c) {
        int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

        for (int i = 0; i < 64 && fd >= 0; i++) {
                int up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

                close(fd);
                fd = up;
        }
        return files_is_root("'..' of the working directory", fd);
}

/* The classic: a second root below an open directory, then up and out. */
static Verdict files_chroot_escape(const Check *c) {
        int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (chroot(scratch) < 0)
                return verdict_refused("chroot", -1);
        (void)!fchdir(fd);
        return verdict_refused("chroot", 0);
}

static Verdict files_working_directory(const Check *c) {
        char path[PATH_MAX] = "", link[PATH_MAX] = "";

        (void)!syscall(SYS_getcwd, path, sizeof path);
        (void)!readlink("/proc/self/cwd", link, sizeof link - 1);
        return verdict_expect(path[0] == '/' && strcmp(path, link) == 0, "a path from the root",
                              "'%s' and '%s'", path, link);
}

/* ---- links ---- */

static Verdict files_link(const Check *c) {
        return verdict_denied("linkat",
                              linkat(AT_FDCWD, c->text, AT_FDCWD, probe_path("linked"), 0));
}

/* protected_hardlinks, or the overlay: a file of root's does not get a second name of ours. */
static Verdict files_link_in_same_tree(const Check *c) {
        char path[PATH_MAX];
        int r;

        snprintf(path, sizeof path, "%s/.carrel-conformance-link", getenv("HOME") ?: "/");
        r = link("/etc/passwd", path);
        if (r == 0)
                unlink(path);
        return verdict_denied("link", r);
}

static Verdict files_link_of_init(const Check *c) {
        return verdict_denied("linkat", linkat(AT_FDCWD, "/proc/1/exe", AT_FDCWD,
                                               probe_path("init"), AT_SYMLINK_FOLLOW));
}

/* ---- attributes that overlayfs or the kernel reads ---- */

static Verdict files_xattr(const Check *c) {
        int fd = probe_make("attribute", "x", 0600);

        return verdict_denied(c->text, fsetxattr(fd, c->text, "y", 1, 0));
}

static Verdict files_xattr_in_workspace(const Check *c) {
        const char *name = ".carrel-conformance-attribute";
        int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600), r;

        if (fd < 0)
                return verdict_skip("the working directory cannot be written");
        r = fsetxattr(fd, c->text, "y", 1, 0);
        unlink(name);
        return verdict_denied(c->text, r);
}

static Verdict files_immutable(const Check *c) {
        int fd = probe_make("immutable", "x", 0600), flags = 0, r;

        if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
                return verdict_denied("FS_IOC_SETFLAGS", -1);
        flags |= FS_IMMUTABLE_FL;
        r = ioctl(fd, FS_IOC_SETFLAGS, &flags);
        flags &= ~FS_IMMUTABLE_FL;
        if (r == 0)
                (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
        return verdict_refused("FS_IOC_SETFLAGS", r);
}

/* A whiteout in the run's layer would hide a file of the original from the patch. */
static Verdict files_whiteout_by_rename(const Check *c) {
        const char *from = ".carrel-conformance-from", *to = ".carrel-conformance-to";
        int fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), r;

        if (fd < 0)
                return verdict_skip("the working directory cannot be written");
        r = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_WHITEOUT);
        unlink(from);
        unlink(to);
        return verdict_denied("RENAME_WHITEOUT", r);
}

/* ---- what may only be read stays as it is ---- */

static int files_make_read_only(const char *name) {
        int fd = probe_make(name, "0123456789", 0400);

        close(fd);
        return open(probe_path(name), O_RDONLY | O_CLOEXEC);
}

static Verdict files_is_unchanged(int fd) {
        char text[16] = "";

        (void)!pread(fd, text, 10, 0);
        return verdict_expect(strcmp(text, "0123456789") == 0, "what stood there", "'%s'", text);
}

/* @number: MAP_SHARED or MAP_PRIVATE. CVE-2016-5195: one try of the ordinary way. */
static Verdict files_write_by_mem(const Check *c) {
        int fd = files_make_read_only("mem"), mem = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
        char *at = mmap(NULL, 4096, PROT_READ, (int)c->number, fd, 0);

        if (at == MAP_FAILED)
                return verdict_expect(false, "a mapping", "%s", errno_name(errno));
        (void)!pwrite(mem, "changed", 7, (off_t)(uintptr_t)at);
        return files_is_unchanged(fd);
}

/* CVE-2022-0847: a page that a pipe shares with a file, written through the pipe. */
static Verdict files_write_by_pipe(const Check *c) {
        static char page[4096];
        int fd = files_make_read_only("pipe"), ends[2];
        off_t at = 0;

        if (pipe(ends) < 0)
                return verdict_expect(false, "a pipe", "%s", errno_name(errno));
        for (int i = 0; i < 16; i++) /* every slot has had a page that may be merged into */
                (void)!write(ends[1], page, sizeof page);
        for (int i = 0; i < 16; i++)
                (void)!read(ends[0], page, sizeof page);
        (void)!splice(fd, &at, ends[1], NULL, 1, 0);
        (void)!write(ends[1], "changed", 7);
        return files_is_unchanged(fd);
}

static Verdict files_mprotect_read_only(const Check *c) {
        int fd = files_make_read_only("protect");
        void *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

        return verdict_denied("mprotect", mprotect(at, 4096, PROT_READ | PROT_WRITE));
}

static Verdict files_reopen_read_only(const Check *c) {
        char path[64];

        if (getuid() == 0)
                return verdict_expect(false, "a user", "root, to whom no mode applies");
        snprintf(path, sizeof path, "/proc/self/fd/%d", files_make_read_only("reopen"));
        return verdict_denied("opening it for writing", open(path, O_RDWR | O_CLOEXEC));
}

static Verdict files_lease(const Check *c) {
        int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

        return verdict_denied("a lease of root's file", fcntl(fd, F_SETLEASE, F_RDLCK));
}

static Verdict files_noatime(const Check *c) {
        return verdict_denied("O_NOATIME of root's file",
                              open("/etc/passwd", O_RDONLY | O_NOATIME | O_CLOEXEC));
}

static Verdict files_chown(const Check *c) {
        int fd = probe_make("owned", "x", 0600);

        return verdict_refused("chown", fchown(fd, 0, (gid_t)-1));
}

static Verdict files_chgrp(const Check *c) {
        int fd = probe_make("grouped", "x", 0600);

        return verdict_refused("chown", fchown(fd, (uid_t)-1, 0));
}

#define NO_CREATE(name_, path)                                                                     \
        { .name = "create_in_" name_, .run = files_no_create, .text = (path) }
#define NOT_LISTED(name_, path)                                                                    \
        { .name = "nothing_in_" name_, .run = files_not_listed, .text = (path) }
#define NO_TYPE(name_, type)                                                                       \
        { .name = "no_" name_ "_mount", .run = files_no_mount_of_type, .text = (type) }
#define FLAG(name_, path, flag)                                                                    \
        { .name = (name_), .run = files_has_flag, .text = (path), .number = (flag) }

static const Check checks[] = {
        {"every_mount_is_nosuid", files_every_mount, .text = "nosuid"},
        {"every_mount_is_nodev", files_every_mount, .text = "nodev", .number = true},
        FLAG("usr_is_read_only", "/usr", ST_RDONLY),
        FLAG("proc_is_noexec", "/proc", ST_NOEXEC),
        FLAG("dev_is_noexec", "/dev", ST_NOEXEC),
        FLAG("pts_is_noexec", "/dev/pts", ST_NOEXEC),
        FLAG("shm_is_noexec", "/dev/shm", ST_NOEXEC),
        FLAG("shm_is_nodev", "/dev/shm", ST_NODEV),
        FLAG("run_is_noexec", "/run", ST_NOEXEC),
        {"exec_in_shm", files_no_exec, .text = "/dev/shm"},
        {"exec_mapping_of_shm", files_no_exec_mapping, .text = "/dev/shm"},
        {"exec_mapping_of_tmp", files_no_exec_mapping, .only = TRAIT_SMALL, .text = "/tmp"},
        NO_TYPE("sysfs", "sysfs"),
        NO_TYPE("cgroup", "cgroup"),
        NO_TYPE("debugfs", "debugfs"),
        NO_TYPE("tracefs", "tracefs"),
        NO_TYPE("securityfs", "securityfs"),
        NO_TYPE("bpf", "bpf"),
        NO_TYPE("devtmpfs", "devtmpfs"),
        NO_TYPE("binfmt_misc", "binfmt_misc"),
        NO_TYPE("nfs", "nfs"),
        NO_CREATE("root", "/"),
        NO_CREATE("usr", "/usr"),
        NO_CREATE("usr_bin", "/usr/bin"),
        NO_CREATE("etc", "/etc"),
        NO_CREATE("run", "/run"),
        NO_CREATE("proc", "/proc"),
        NO_CREATE("var", "/var"),
        NO_CREATE("opt", "/opt"),
        {"write_to_mounted_program", files_own_program},
        {"host_file", files_host_file, .needs = FACT_FILE},
        NOT_LISTED("root_home", "/root"),
        NOT_LISTED("boot", "/boot"),
        NOT_LISTED("media", "/media"),
        NOT_LISTED("var_log", "/var/log"),
        NOT_LISTED("var_spool", "/var/spool"),
        NOT_LISTED("lost_and_found", "/lost+found"),
        {"no_shadow", check_unreadable, .text = "/etc/shadow"},
        {"no_machine_id", check_unreadable, .text = "/etc/machine-id"},
        {"no_host_keys", check_absent, .text = "/etc/ssh"},
        {"no_sudoers", check_absent, .text = "/etc/sudoers"},
        {"no_fstab", check_unreadable, .text = "/etc/fstab"},
        {"above_root", files_above_root, .text = "/../../.."},
        {"above_proc_root", files_above_root, .text = "/proc/self/root/.."},
        {"above_working_directory", files_above_working_directory},
        {"chroot_escape", files_chroot_escape},
        {"working_directory_has_a_path", files_working_directory},
        {"link_to_image", files_link, .text = "/usr/bin/env"},
        {"link_to_passwd", files_link, .text = "/etc/passwd"},
        {"link_in_same_tree", files_link_in_same_tree},
        {"link_to_init", files_link_of_init},
        {"trusted_attribute", files_xattr, .text = "trusted.overlay.opaque"},
        {"security_attribute", files_xattr, .text = "security.ima"},
        {"overlay_opaque", files_xattr_in_workspace, .text = "trusted.overlay.opaque"},
        {"overlay_redirect", files_xattr_in_workspace, .text = "trusted.overlay.redirect"},
        {"overlay_metacopy", files_xattr_in_workspace, .text = "trusted.overlay.metacopy"},
        {"immutable", files_immutable},
        {"whiteout_by_rename", files_whiteout_by_rename},
        {"mem_of_shared_mapping", files_write_by_mem, .number = MAP_SHARED},
        {"mem_of_private_mapping", files_write_by_mem, .number = MAP_PRIVATE},
        {"dirty_pipe", files_write_by_pipe},
        {"mprotect_read_only", files_mprotect_read_only},
        {"reopen_read_only", files_reopen_read_only},
        {"lease", files_lease},
        {"noatime", files_noatime},
        {"chown_to_root", files_chown},
        {"chgrp_to_root", files_chgrp},
};

const Class class_files = CLASS("files", "mounts, the root, links, what may only be read", checks);
