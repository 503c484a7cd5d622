/*
 * Resources: limits are there, they are the profile's, and nobody raises them
 *
 * How much memory there is stays untried: to take it all would end the battery, or its neighbours.
 */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"

/* @number: the limit, @args: what its soft and hard values may at most be. */
static Verdict resources_limit(const Check *c) {
        struct rlimit now = {RLIM_INFINITY, RLIM_INFINITY};

        (void)getrlimit((unsigned)c->number, &now);
        return verdict_expect(now.rlim_cur <= (rlim_t)c->args[0] &&
                                      now.rlim_max <= (rlim_t)c->args[1],
                              "the limit", "%llu, at most %llu", (unsigned long long)now.rlim_cur,
                              (unsigned long long)now.rlim_max);
}

static Verdict resources_raise(const Check *c) {
        struct rlimit now;

        (void)getrlimit((unsigned)c->number, &now);
        if (now.rlim_max == RLIM_INFINITY)
                return verdict_expect(false, "a limit", "none");
        now.rlim_max++;
        return verdict_refused("raising it", setrlimit((unsigned)c->number, &now));
}

static Verdict resources_open_files(const Check *c) {
        struct rlimit now = {0};

        (void)getrlimit(RLIMIT_NOFILE, &now);
        /* fewer, where the host gave carrel itself no more */
        return verdict_expect(now.rlim_max <= profile->open_files && start.soft_files <= 1024,
                              "at most the profile's", "%ld, at most %llu", start.soft_files,
                              (unsigned long long)now.rlim_max);
}

static Verdict resources_file_size(const Check *c) {
        struct rlimit now = {0};

        (void)getrlimit(RLIMIT_FSIZE, &now);
        return verdict_expect(now.rlim_max <= profile->disk_bytes, "the profile's disk", "%llu",
                              (unsigned long long)now.rlim_max);
}

static uint64_t resources_size(const char *path) {
        struct statvfs s = {0};

        (void)statvfs(path, &s);
        return (uint64_t)s.f_blocks * s.f_frsize;
}

static Verdict resources_tmp(const Check *c) {
        uint64_t size = resources_size("/tmp");

        return verdict_expect(size == profile->tmp_bytes, "the profile's size", "%llu",
                              (unsigned long long)size);
}

static Verdict resources_shm(const Check *c) {
        uint64_t size = resources_size("/dev/shm");

        return verdict_expect(size == profile->shm_bytes, "the profile's size", "%llu",
                              (unsigned long long)size);
}

static Verdict resources_run(const Check *c) {
        uint64_t size = resources_size("/run");

        return verdict_expect(size > 0 && size <= 64 * MIB, "a small one", "%llu",
                              (unsigned long long)size);
}

/* @text: a directory of the run's layers. What a file system needs for itself may come on top. */
static Verdict resources_disk(const Check *c) {
        uint64_t size = resources_size(c->text);

        return verdict_expect(size > 0 && size <= profile->disk_bytes + profile->disk_bytes / 16,
                              "at most the profile's disk", "%llu", (unsigned long long)size);
}

/* @text: a memory file system; one byte more than it may hold. */
static Verdict resources_fill(const Check *c) {
        uint64_t size = c->number ? profile->shm_bytes : profile->tmp_bytes;
        char path[PATH_MAX];
        int fd, r;

        snprintf(path, sizeof path, "%s/carrel-conformance-%d", c->text, getpid());
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        signal(SIGXFSZ, SIG_IGN);
        r = fd < 0 ? fd : fallocate(fd, 0, 0, (off_t)size + 4096);
        unlink(path);
        return verdict_denied("more than its size", r);
}

static Verdict resources_lock(const Check *c) {
        const size_t size = 16 * MIB;
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return verdict_denied("locking 16 MiB", mlock(at, size));
}

static Verdict resources_lock_all(const Check *c) {
        (void)mmap(NULL, 16 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return verdict_denied("locking all memory", mlockall(MCL_CURRENT | MCL_FUTURE));
}

/* A core file, or a program of the host that gets it by core_pattern, which no limit of ours stops:
 * core(5); CVE-2025-4598. */
static Verdict resources_core(const Check *c) {
        int status = 0;
        pid_t pid = fork();

        if (pid == 0) {
                (void)!chdir(scratch); /* where it would be left */
                abort();
        }
        waitpid(pid, &status, 0);
        return verdict_expect(WIFSIGNALED(status) && !WCOREDUMP(status), "no core dump",
                              "wait status %#x", (unsigned)status);
}

/* ---- processes ---- */

/* Makes children until it is refused or there are @most; they wait for the pipe's end. */
static unsigned resources_fork(uint64_t most, int *ret_code) {
        int ends[2];
        unsigned n = 0;
        char byte;

        if (pipe(ends) < 0)
                return 0;
        for (; n < most; n++) {
                pid_t pid = fork();

                if (pid < 0) {
                        *ret_code = errno;
                        break;
                }
                if (pid == 0) {
                        close(ends[1]);
                        _exit((int)read(ends[0], &byte, 1));
                }
        }
        close(ends[1]);
        while (waitpid(-1, NULL, 0) > 0)
                ;
        return n;
}

static Verdict resources_processes(const Check *c) {
        int code = 0;
        unsigned n = resources_fork(profile->pids + 16, &code);

        return verdict_expect(code == EAGAIN && n < profile->pids, "an end at the profile's number",
                              "%u processes", n);
}

#define LIMIT(name_, which, soft, hard)                                                            \
        {                                                                                          \
                .name = (name_), .run = resources_limit, .number = (which), .args = {              \
                        (soft),                                                                    \
                        (hard)                                                                     \
                }                                                                                  \
        }
#define RAISE(name_, which)                                                                        \
        { .name = "raise_" name_, .run = resources_raise, .number = (which) }

static const Check checks[] = {
        LIMIT("core", RLIMIT_CORE, 0, 0),
        LIMIT("locked_memory", RLIMIT_MEMLOCK, 8 * MIB, 8 * MIB),
        LIMIT("nice", RLIMIT_NICE, 0, 0),
        LIMIT("real_time", RLIMIT_RTPRIO, 0, 0),
        LIMIT("message_queues", RLIMIT_MSGQUEUE, MIB, MIB),
        LIMIT("pending_signals", RLIMIT_SIGPENDING, MIB, MIB),
        {"open_files", resources_open_files},
        {"file_size", resources_file_size},
        RAISE("core", RLIMIT_CORE),
        RAISE("locked_memory", RLIMIT_MEMLOCK),
        RAISE("nice", RLIMIT_NICE),
        RAISE("real_time", RLIMIT_RTPRIO),
        RAISE("open_files", RLIMIT_NOFILE),
        RAISE("file_size", RLIMIT_FSIZE),
        RAISE("message_queues", RLIMIT_MSGQUEUE),
        {"tmp", resources_tmp},
        {"shm", resources_shm},
        {"run", resources_run},
        {"disk_of_workspace", resources_disk, .text = "/workspace"},
        {"disk_of_root", resources_disk, .text = "/"},
        {"fill_tmp", resources_fill, .text = "/tmp", .number = false},
        {"fill_shm", resources_fill, .text = "/dev/shm", .number = true},
        {"lock", resources_lock},
        {"lock_all", resources_lock_all},
        {"no_core_dump", resources_core},
        {"processes", resources_processes, .seconds = 60},
};

const Class class_resources = CLASS("resources", "limits, and who may raise them", checks);
