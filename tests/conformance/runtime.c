/*
 * carrel itself, as a harness can reach it: the guest socket, init, the places under /run
 *
 * CVE-2019-5736 (the runtime's program by /proc/PID/exe), CVE-2016-9962 (its memory and
 * descriptors). The shim behind the socket reads what anybody sends; whatever that is, the run goes
 * on and the next one is answered.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include "conformance.h"

#define RUNTIME_SOCKET "/run/carrel/guest.sock"
#define RUNTIME_GUEST  "/run/carrel/bin/carrel-guest"

static int runtime_connect(void) {
        const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = RUNTIME_SOCKET};
        const struct timeval patience = {.tv_sec = 2};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

/* The shim answers: so it lives, and holds no grudge. */
static Verdict runtime_still_answers(void) {
        char text[256] = "";
        int status = probe_shell(RUNTIME_GUEST " status", text, sizeof text);

        return verdict_expect(status == 0, "an answer of the guest socket", "'%s'", text);
}

static Verdict runtime_send(const void *data, size_t size) {
        int fd = runtime_connect();

        if (fd < 0)
                return verdict_expect(false, RUNTIME_SOCKET, "%s", errno_name(errno));
        (void)!send(fd, data, size, MSG_NOSIGNAL);
        (void)shutdown(fd, SHUT_WR);
        (void)!recv(fd, (char[256]){0}, 256, 0);
        close(fd);
        return runtime_still_answers();
}

static Verdict runtime_answers(const Check *c) {
        return runtime_still_answers();
}

static Verdict runtime_garbage(const Check *c) {
        unsigned char bytes[65536];
        unsigned x = 1;

        for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (unsigned char)((x = x * 1103515245 + 12345) >> 16);
        return runtime_send(bytes, sizeof bytes);
}

/* @text: bytes of one frame, @number: how many. */
static Verdict runtime_frame(const Check *c) {
        return runtime_send(c->text, (size_t)c->number);
}

static Verdict runtime_flood(const Check *c) {
        int fds[256];
        size_t n = 0;

        signal(SIGPIPE, SIG_IGN);
        for (; n < ELEMENTSOF(fds); n++) {
                fds[n] = runtime_connect();
                if (fds[n] < 0)
                        break;
                (void)fcntl(fds[n], F_SETFL, O_NONBLOCK);
                (void)!write(fds[n], "\0\0", 2);
        }
        while (n > 0)
                close(fds[--n]);
        return runtime_still_answers();
}

/* As many descriptors as a message may carry, in a frame that asks for none. */
static Verdict runtime_descriptors(const Check *c) {
        union {
                char bytes[CMSG_SPACE(253 * sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct iovec data = {.iov_base = (char[]){0, 0, 0, 0}, .iov_len = 4};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *h = CMSG_FIRSTHDR(&message);
        int fd = runtime_connect();

        if (fd < 0)
                return verdict_expect(false, RUNTIME_SOCKET, "%s", errno_name(errno));
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(253 * sizeof(int));
        for (size_t i = 0; i < 253; i++)
                memcpy(CMSG_DATA(h) + i * sizeof(int), &(int){2}, sizeof(int));
        (void)!sendmsg(fd, &message, MSG_NOSIGNAL);
        close(fd);
        return runtime_still_answers();
}

/* What is published is a file, not something that stops whoever reads it. */
static Verdict runtime_publish(const Check *c) {
        char script[256], text[256] = "";
        int status;

        snprintf(script, sizeof script, "%s; timeout 5 " RUNTIME_GUEST " artifact publish %s",
                 c->text, c->name);
        if (access(RUNTIME_GUEST, X_OK) < 0)
                return verdict_expect(false, RUNTIME_GUEST, "%s", errno_name(errno));
        status = probe_shell(script, text, sizeof text);
        return verdict_expect(status != 0 && status != 124, "a refusal", "status %d: '%s'", status,
                              text);
}

/* ---- the places under /run ---- */

/* By the directory that holds it: rename, link and unlink ask for no more. */
static Verdict runtime_cannot_replace(const Check *c) {
        char path[PATH_MAX];
        struct stat st;
        int r;

        if (lstat(c->text, &st) < 0)
                return verdict_expect(false, c->text, "%s", errno_name(errno));
        snprintf(path, sizeof path, "%s", c->text);
        *strrchr(path, '/') = 0;
        r = faccessat(AT_FDCWD, *path ? path : "/", W_OK, AT_EACCESS);
        return verdict_denied("replacing it", r);
}

static Verdict runtime_cannot_write(const Check *c) {
        struct stat st;

        if (lstat(c->text, &st) < 0)
                return verdict_expect(false, c->text, "%s", errno_name(errno));
        return verdict_denied("writing to it", faccessat(AT_FDCWD, c->text, W_OK, AT_EACCESS));
}

static Verdict runtime_credentials(const Check *c) {
        struct stat st = {0};

        if (lstat("/run/credentials", &st) < 0)
                return verdict_expect(false, "/run/credentials", "%s", errno_name(errno));
        return verdict_expect(S_ISDIR(st.st_mode) && !(st.st_mode & 027) && st.st_uid != getuid(),
                              "a directory of root's that others cannot read", "owner %u, mode %o",
                              st.st_uid, st.st_mode);
}

static Verdict runtime_guest_is_read_only(const Check *c) {
        struct statvfs s = {0};

        if (statvfs(RUNTIME_GUEST, &s) < 0)
                return verdict_expect(false, RUNTIME_GUEST, "%s", errno_name(errno));
        return verdict_expect(s.f_flag & ST_RDONLY, "a read-only mount", "flags %#lx", s.f_flag);
}

#define INIT(name_, path)                                                                          \
        { .name = "init_" name_, .run = check_unreadable, .text = "/proc/1/" path }
#define FRAME(name_, bytes)                                                                        \
        { .name = (name_), .run = runtime_frame, .text = (bytes), .number = sizeof(bytes) - 1 }

static const Check checks[] = {
        {"guest_answers", runtime_answers},
        {"guest_garbage", runtime_garbage},
        FRAME("guest_empty_frame", "\0\0\0\0"),
        FRAME("guest_huge_frame", "\xff\xff\xff\xff"),
        FRAME("guest_negative_frame", "\x80\0\0\0"),
        FRAME("guest_torn_frame", "\0\0\1\0abc"),
        FRAME("guest_unknown_request", "\0\0\0\x03\xf2\x7f\0"),
        FRAME("guest_bad_varint", "\0\0\0\x0b\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        FRAME("guest_http", "GET / HTTP/1.1\r\nHost: carrel\r\n\r\n"),
        {"guest_flood", runtime_flood, .seconds = 30},
        {"guest_descriptors", runtime_descriptors},
        {"publish_directory", runtime_publish, .text = "mkdir -p publish_directory", .seconds = 15},
        {"publish_fifo", runtime_publish, .text = "mkfifo publish_fifo", .seconds = 15},
        {"publish_device", runtime_publish, .text = "ln -s /dev/zero publish_device",
         .seconds = 15},
        {"publish_procfs", runtime_publish, .text = "ln -s /proc/1/environ publish_procfs",
         .seconds = 15},

        INIT("environment", "environ"),
        INIT("memory", "mem"),
        INIT("map", "maps"),
        INIT("stack", "stack"),
        INIT("call", "syscall"),
        INIT("auxiliary", "auxv"),
        INIT("pagemap", "pagemap"),
        INIT("io", "io"),
        INIT("program", "exe"),
        INIT("root", "root/etc/hostname"),
        INIT("working_directory", "cwd/etc/hostname"),
        INIT("descriptor", "fd/3"),
        INIT("mount_table", "mountinfo"),
        {"init_is_hidden", check_absent, .text = "/proc/1/status"},
        {"init_program_write", check_unwritable, .text = "/proc/1/exe"},
        {"init_memory_write", check_unwritable, .text = "/proc/1/mem"},
        {"init_oom_write", check_unwritable, .text = "/proc/1/oom_score_adj"},

        {"replace_run_directory", runtime_cannot_replace, .text = "/run/carrel"},
        {"replace_socket", runtime_cannot_replace, .text = RUNTIME_SOCKET},
        {"replace_guest", runtime_cannot_replace, .text = RUNTIME_GUEST},
        {"replace_credentials", runtime_cannot_replace, .text = "/run/credentials"},
        {"write_guest", runtime_cannot_write, .text = RUNTIME_GUEST},
        {"write_credentials", runtime_cannot_write, .text = "/run/credentials"},
        {"guest_is_read_only", runtime_guest_is_read_only},
        {"credentials_are_private", runtime_credentials},
        {"replace_passwd", runtime_cannot_replace, .text = "/etc/passwd"},
        {"write_passwd", runtime_cannot_write, .text = "/etc/passwd"},
};

const Class class_runtime = CLASS("runtime", "carrel itself, as a harness can reach it", checks);
