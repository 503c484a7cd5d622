#include "trees.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

int trees_setup(void **state) {
        Trees *t = calloc(1, sizeof *t);

        if (geteuid() != 0) {
                fprintf(stderr,
                        "these tests make whiteouts and trusted.* attributes: run them as root\n");
                return -1;
        }
        umask(022);
        strcpy(t->path, "/tmp/carrel-trees-XXXXXX");
        if (!mkdtemp(t->path))
                return -1;
        t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        make_dir(t->fd, "lower", 0755);
        make_dir(t->fd, "upper", 0755);
        make_dir(t->fd, "work", 0755);
        make_dir(t->fd, "merged", 0755);
        t->lower = openat(t->fd, "lower", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        t->upper = openat(t->fd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = t;
        return t->lower < 0 || t->upper < 0 ? -1 : 0;
}

int trees_teardown(void **state) {
        Trees *t = *state;

        fd_close(t->lower);
        fd_close(t->upper);
        fd_close(t->fd);
        fd_remove_tree(AT_FDCWD, t->path, NULL);
        free(t);
        return 0;
}

void put(int dir, const char *path, const char *text, mode_t mode) {
        _cleanup_close_ int fd = openat(dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(fchmod(fd, mode), 0);
}

void make_dir(int dir, const char *path, mode_t mode) {
        assert_int_equal(mkdirat(dir, path, 0700), 0);
        assert_int_equal(fchmodat(dir, path, mode, 0), 0);
}

void make_link(int dir, const char *path, const char *target) {
        assert_int_equal(symlinkat(target, dir, path), 0);
}

void make_node(int dir, const char *path, mode_t type) {
        assert_int_equal(mknodat(dir, path, type | 0644, makedev(1, 3)), 0);
}

void whiteout(int dir, const char *path) {
        assert_int_equal(mknodat(dir, path, S_IFCHR, makedev(0, 0)), 0);
}

void set_xattr(int dir, const char *path, const char *name, const char *value) {
        _cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(fsetxattr(fd, name, value, strlen(value), 0), 0);
}

char *text_of(int dir, const char *path) {
        char *text = NULL;

        assert_int_equal(file_read_at(dir, path, MIB, &text, NULL, NULL), 0);
        return text;
}

mode_t mode_of(int dir, const char *path) {
        struct stat st;

        assert_int_equal(fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
        return st.st_mode;
}

int exists(int dir, const char *path) {
        return faccessat(dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int overlay_mount(const Trees *t, char *ret_merged, size_t size) {
        char options[512];

        snprintf(options, sizeof options,
                 "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/"
                 "work,redirect_dir=off,metacopy=off,index=off",
                 t->path, t->path, t->path);
        snprintf(ret_merged, size, "%s/merged", t->path);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        return mount("overlay", ret_merged, "overlay", 0, options) < 0 ? -errno : 0;
}

void in_overlay(Trees *t, void (*edit)(int merged)) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                char merged[128];
                int fd = -1;

                if (overlay_mount(t, merged, sizeof merged) < 0)
                        _exit(2);
                fd = open(merged, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0)
                        _exit(3);
                edit(fd);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0)
                fail_msg("the edits in a real overlay failed: wait status %d (exit 2: no overlay "
                         "mount)",
                         status);
}
