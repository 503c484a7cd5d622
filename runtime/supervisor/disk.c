/*
 * The workspace's disk limit
 *
 * No single file can grow past the limit (RLIMIT_FSIZE, set in the workspace). All of them together
 * are measured from outside: once a second, if the file system has lost enough room since the last
 * time to make it worth a walk. The walk is done by a short-lived child, so a tree of a million
 * files does not hold up the loop.
 *
 * Limit of the method: what is written within a second is noticed after it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/supervisor.h"
#include "workspace/workspace.h"

#define DISK_INTERVAL_US (1 * USEC_PER_SEC)
#define DISK_FORCED_US   (5 * USEC_PER_SEC)
#define DISK_MAX_DEPTH   256

/* Bytes that a tree takes; follows nothing, gives up on what is too deep. Consumes fd. */
static uint64_t disk_walk(int fd, unsigned depth) {
        DIR *dir = fdopendir(fd);
        struct dirent *de;
        uint64_t bytes = 0;

        if (!dir) {
                fd_close(fd);
                return 0;
        }
        while ((de = readdir(dir))) {
                struct stat st;

                if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
                    fstatat(dirfd(dir), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                bytes += (uint64_t)st.st_blocks * 512 /
                         (st.st_nlink > 1 && !S_ISDIR(st.st_mode) ? st.st_nlink : 1);
                if (S_ISDIR(st.st_mode) && depth < DISK_MAX_DEPTH) {
                        int child = openat(dirfd(dir), de->d_name,
                                           O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

                        if (child >= 0)
                                bytes += disk_walk(child, depth + 1);
                }
        }
        closedir(dir);
        return bytes;
}

static int disk_measured(sd_event_source *source, int fd, uint32_t revents, void *data);

static int disk_start_walk(LiveRun *r) {
        int ends[2],
                layers = openat(r->run_fd, WORKSPACE_LAYERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC), k;
        pid_t pid;

        if (layers < 0 || pipe2(ends, O_CLOEXEC) < 0) {
                fd_close(layers);
                return -errno;
        }
        pid = fork();
        if (pid == 0) {
                uint64_t bytes;

                if (fork() != 0) /* nobody waits for a grandchild */
                        _exit(0);
                bytes = disk_walk(layers, 0);
                _exit(fd_write_all(ends[1], &bytes, sizeof bytes) < 0);
        }
        close(ends[1]);
        fd_close(layers);
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
        r->disk_source = sd_event_source_disable_unref(r->disk_source);
        k = sd_event_add_io(r->sv->event, &r->disk_source, ends[0], EPOLLIN, disk_measured, r);
        if (k >= 0)
                k = sd_event_source_set_io_fd_own(r->disk_source, true);
        else
                close(ends[0]);
        return k;
}

static uint64_t disk_used(const LiveRun *r) {
        struct statvfs st;

        return fstatvfs(r->run_fd, &st) < 0 ? 0
                                            : (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
}

static int disk_timer(sd_event_source *source, uint64_t us, void *data) {
        LiveRun *r = data;
        uint64_t used = disk_used(r), now = clock_boottime_us();

        /* Others may have freed what this run wrote over; so look from time to time in any case. */
        if (used > r->disk_baseline_bytes + r->plan->limits->disk_bytes / 16 ||
            now - r->disk_walked_us > DISK_FORCED_US)
                if (disk_start_walk(r) >= 0)
                        return 0;
        return disk_watch(r, NULL);
}

static int disk_measured(sd_event_source *source, int fd, uint32_t revents, void *data) {
        LiveRun *r = data;
        uint64_t bytes = 0;

        if (read(fd, &bytes, sizeof bytes) != sizeof bytes)
                bytes = 0;
        r->disk_walked_us = clock_boottime_us();
        if (bytes < r->plan->limits->disk_bytes / 2)
                r->disk_baseline_bytes = disk_used(r);
        if (bytes > r->plan->limits->disk_bytes)
                live_run_stop(r, CARREL__V1__REASON__REASON_DISK_FULL,
                              "the workspace wrote more than its disk limit");
        return disk_watch(r, NULL);
}

int disk_watch(LiveRun *r, Error **reterr) {
        int k;

        if (r->plan->limits->disk_bytes == 0)
                return 0;
        if (r->disk_walked_us == 0) {
                r->disk_walked_us = clock_boottime_us();
                r->disk_baseline_bytes = disk_used(r);
        }
        r->disk_source = sd_event_source_disable_unref(r->disk_source);
        k = sd_event_add_time_relative(r->sv->event, &r->disk_source, CLOCK_MONOTONIC,
                                       DISK_INTERVAL_US, 0, disk_timer, r);
        return k < 0 ? error_set(reterr, -k, "cannot watch the disk limit") : 0;
}
