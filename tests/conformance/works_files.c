/*
 * What an ordinary job does with files: in the workspace, at home, in /tmp
 *
 * A check whose name ends in a place is the same one in another file system.
 */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

#include "conformance.h"

#define WORKS(what, r)                                                                             \
        do {                                                                                       \
                long works_r = (long)(r);                                                          \
                if (works_r < 0)                                                                   \
                        return verdict_worked((what), works_r);                                    \
        } while (0)

/* @text: a directory; NULL is the one the battery was started in. A directory of our own there. */
static int works_directory(const Check *c) {
        const char *base = c->text ? getenv(c->text) ?: c->text : ".";
        char path[PATH_MAX];
        int fd;

        snprintf(path, sizeof path, "%s/.carrel-conformance-%d", base, getpid());
        if (mkdir(path, 0700) < 0)
                return -1;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd >= 0 && fchdir(fd) == 0 ? fd : -1;
}

static void works_leave(int fd) {
        char path[PATH_MAX] = "";

        if (fd >= 0 && getcwd(path, sizeof path) && chdir("..") == 0)
                (void)rmdir(path);
}

static int works_file(const char *name, const char *content) {
        int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

        return fd >= 0 && write(fd, content, strlen(content)) >= 0 ? fd : -1;
}

/* Write, link, rename, remove: what git does for each object. */
static Verdict works_names(const Check *c) {
        int fd = works_directory(c);

        WORKS("a directory", fd);
        WORKS("a file", works_file("a", "x"));
        WORKS("link", link("a", "b"));
        WORKS("symlink", symlink("b", "c"));
        WORKS("rename", rename("b", "d"));
        WORKS("mkfifo", mkfifo("e", 0600));
        WORKS("chmod", chmod("d", 0644));
        WORKS("utimensat", utimensat(AT_FDCWD, "d", NULL, 0));
        for (const char *name = "acde"; *name; name++)
                WORKS("unlink", unlink((char[]){*name, 0}));
        works_leave(fd);
        return VERDICT_HELD;
}

static Verdict works_execute(const Check *c) {
        int fd = works_directory(c), script, status;
        pid_t pid;

        WORKS("a directory", fd);
        script = works_file("script", "#!/bin/sh\nexit 7\n");
        WORKS("a file", script);
        close(script);
        pid = fork();
        if (pid == 0) {
                execl("./script", "script", (char *)NULL);
                _exit(errno);
        }
        status = probe_await(pid);
        (void)unlink("script");
        works_leave(fd);
        errno = status; /* of execve(), where it was not 7 */
        return verdict_worked("a script", status == 7 ? 0 : -1);
}

static Verdict works_attribute(const Check *c) {
        int fd = works_directory(c), file, r;
        char value[8] = "";

        WORKS("a directory", fd);
        file = works_file("a", "x");
        r = fsetxattr(file, "user.test", "y", 1, 0);
        if (r == 0)
                r = (int)fgetxattr(file, "user.test", value, sizeof value);
        (void)unlink("a");
        works_leave(fd);
        return verdict_worked("user.test", r);
}

static Verdict works_lock(const Check *c) {
        int fd = works_directory(c), file;
        struct flock record = {.l_type = F_WRLCK};

        WORKS("a directory", fd);
        file = works_file("a", "x");
        (void)unlink("a");
        works_leave(fd);
        WORKS("flock", flock(file, LOCK_EX));
        WORKS("F_OFD_SETLK", fcntl(file, F_OFD_SETLK, &record));
        return verdict_worked("F_SETLK", fcntl(dup(file), F_GETLK, &record));
}

static Verdict works_unnamed(const Check *c) {
        int fd = works_directory(c), file, r;
        char path[64];

        WORKS("a directory", fd);
        file = open(".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
        r = file < 0 ? file : linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW);
        (void)unlink("named");
        works_leave(fd);
        return verdict_worked("O_TMPFILE", r);
}

static Verdict works_map(const Check *c) {
        int fd = works_directory(c), file;
        char *at, text[8] = "";

        WORKS("a directory", fd);
        file = works_file("a", "0123");
        (void)unlink("a");
        works_leave(fd);
        at = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        WORKS("mmap", at == MAP_FAILED ? -1 : 0);
        for (int i = 0; i < 4; i++)
                at[i] = "word"[i];
        WORKS("msync", msync(at, 4, MS_SYNC));
        WORKS("pread", pread(file, text, 4, 0));
        return verdict_expect(strcmp(text, "word") == 0, "the word", "'%s'", text);
}

static Verdict works_sparse(const Check *c) {
        int fd = works_directory(c), file, other;

        WORKS("a directory", fd);
        file = works_file("a", "x");
        other = works_file("b", "");
        (void)unlink("a");
        (void)unlink("b");
        works_leave(fd);
        WORKS("fallocate", fallocate(file, 0, 0, 8192));
        WORKS("ftruncate", ftruncate(file, MIB));
        WORKS("SEEK_HOLE", lseek(file, 0, SEEK_HOLE));
        WORKS("fsync", fsync(file));
        WORKS("copy_file_range", copy_file_range(file, &(off64_t){0}, other, NULL, 4096, 0));
        return verdict_worked("sendfile", sendfile(other, file, &(off_t){0}, 4096));
}

static Verdict works_watch(const Check *c) {
        int fd = works_directory(c), watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), file;
        char event[512];

        WORKS("a directory", fd);
        WORKS("inotify_add_watch", inotify_add_watch(watch, ".", IN_CREATE));
        file = works_file("a", "x");
        (void)unlink("a");
        works_leave(fd);
        WORKS("a file", file);
        return verdict_worked("an event", read(watch, event, sizeof event));
}

static Verdict works_terminal(const Check *c) {
        struct winsize size = {.ws_row = 24, .ws_col = 80}, got = {0};
        int master, slave;
        char text[8] = "";

        WORKS("openpty", openpty(&master, &slave, NULL, NULL, &size));
        WORKS("TIOCGWINSZ", ioctl(slave, TIOCGWINSZ, &got));
        WORKS("write", write(master, "word\n", 5));
        WORKS("read", read(slave, text, sizeof text - 1));
        return verdict_expect(got.ws_col == 80 && strcmp(text, "word\n") == 0, "the word",
                              "'%s', %u columns", text, got.ws_col);
}

static Verdict works_pipe(const Check *c) {
        int ends[2];
        char text[8] = "";

        WORKS("pipe", pipe2(ends, O_CLOEXEC));
        WORKS("F_SETPIPE_SZ", fcntl(ends[1], F_SETPIPE_SZ, 65536));
        WORKS("write", write(ends[1], "word", 4));
        return verdict_worked("read", read(ends[0], text, sizeof text));
}

static Verdict works_shared_memory(const Check *c) {
        int fd = shm_open("/carrel-conformance", O_RDWR | O_CREAT, 0600);

        WORKS("shm_open", fd);
        WORKS("shm_unlink", shm_unlink("/carrel-conformance"));
        WORKS("ftruncate", ftruncate(fd, 4096));
        return verdict_worked(
                "mmap",
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
}

/* @text: a device, @number: how it is opened. */
static Verdict works_device(const Check *c) {
        char byte[1] = {0};
        int fd = open(c->text, (int)c->number | O_CLOEXEC);

        WORKS(c->text, fd);
        return verdict_worked(c->text,
                              c->number == O_WRONLY ? write(fd, byte, 1) : read(fd, byte, 1));
}

static Verdict works_link_of_standard(const Check *c) {
        return verdict_worked(c->text, access(c->text, F_OK));
}

static Verdict works_own_proc(const Check *c) {
        char text[4096];

        return verdict_worked(c->text, probe_read(c->text, text, sizeof text));
}

#define IN_WORKSPACE(name_, function)                                                              \
        { .name = (name_), .run = (function) }
#define IN_HOME(name_, function)                                                                   \
        { .name = (name_), .run = (function), .text = "HOME" }
#define IN_TMP(name_, function)                                                                    \
        { .name = (name_), .run = (function), .text = "/tmp" }
#define OWN(name_, path)                                                                           \
        { .name = "read_" name_, .run = works_own_proc, .text = (path) }

static const Check checks[] = {
        IN_WORKSPACE("names_in_workspace", works_names),
        IN_HOME("names_in_home", works_names),
        IN_TMP("names_in_tmp", works_names),
        IN_WORKSPACE("execute_in_workspace", works_execute),
        IN_HOME("execute_in_home", works_execute),
        {"execute_in_tmp", works_execute, .except = TRAIT_SMALL, .text = "/tmp"},
        IN_WORKSPACE("attribute_in_workspace", works_attribute),
        IN_WORKSPACE("lock_in_workspace", works_lock),
        IN_TMP("lock_in_tmp", works_lock),
        IN_TMP("unnamed_in_tmp", works_unnamed),
        IN_WORKSPACE("map_in_workspace", works_map),
        IN_WORKSPACE("sparse_in_workspace", works_sparse),
        IN_WORKSPACE("watch_in_workspace", works_watch),
        {"terminal", works_terminal},
        {"pipe", works_pipe},
        {"shared_memory", works_shared_memory},
        {"write_null", works_device, .text = "/dev/null", .number = O_WRONLY},
        {"read_zero", works_device, .text = "/dev/zero", .number = O_RDONLY},
        {"read_urandom", works_device, .text = "/dev/urandom", .number = O_RDONLY},
        {"dev_fd", works_link_of_standard, .text = "/dev/fd/0"},
        {"dev_stdin", works_link_of_standard, .text = "/dev/stdin"},
        {"dev_stderr", works_link_of_standard, .text = "/dev/stderr"},
        OWN("own_maps", "/proc/self/maps"),
        OWN("own_environment", "/proc/self/environ"),
        OWN("meminfo", "/proc/meminfo"),
        OWN("cpuinfo", "/proc/cpuinfo"),
        OWN("ostype", "/proc/sys/kernel/ostype"),
        OWN("uuid", "/proc/sys/kernel/random/uuid"),
        OWN("passwd", "/etc/passwd"),
};

const Class class_works_files = CLASS("works_files", "what a job does with files", checks);
