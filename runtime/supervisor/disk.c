/*
 * The workspace's disk limit
 *
 * Where its layers have a file system of their own (workspace/volume.h), the kernel holds the
 * limit: a writer gets ENOSPC, and lives on. What is left to do is to see that it happened, so that
 * a run that failed of it can say so: fstatfs(2), now and then.
 *
 * Where they stand on the host's file system, they are measured: no single file can grow past the
 * limit (RLIMIT_FSIZE, set in the workspace), and all of them together are looked at once a second,
 * if the file system has lost enough room since the last time to make it worth a walk. The walk is
 * done by a short-lived child, so a tree of a million files does not hold up the loop. What is
 * written within a second is noticed after it, and ends the run.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "supervisor/supervisor.h"

#define DISK_INTERVAL_US (1 * USEC_PER_SEC)
#define DISK_FORCED_US   (5 * USEC_PER_SEC)
#define DISK_MAX_DEPTH   256
#define DISK_NEAR_US     (100 * USEC_PER_MSEC) /* when an eighth or less is left */
#define DISK_FULL_BYTES  (64 * KIB)            /* less than that is as good as nothing */

/* ---- the kernel holds the limit ----------------------------------------------------------------
 */

static void disk_record(LiveRun *r, const char *limit, uint64_t value) {
        Carrel__V1__LimitHit hit = CARREL__V1__LIMIT_HIT__INIT;
        char name[sizeof DISK_LIMIT_FILES], consequence[] = "writing failed";
        Event event = CARREL__V1__EVENT__INIT;

        snprintf(name, sizeof name, "%s", limit);
        hit.limit = name;
        hit.value = value;
        hit.count = 1;
        hit.consequence = consequence;
        event.body_case = CARREL__V1__EVENT__BODY_LIMIT_HIT;
        event.limit_hit = &hit;
        live_run_append(r, &event);
}

/* Return: whether little is left. */
static bool disk_look(LiveRun *r) {
        const Carrel__V1__PlanLimits *limits = r->plan->limits;
        struct statfs fs;
        uint64_t left;

        if (fstatfs(r->layers.fd, &fs) < 0)
                return false;
        left = fs.f_bavail * (uint64_t)fs.f_bsize;
        r->disk_used_bytes = (fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
        if (!r->disk_hit && left < DISK_FULL_BYTES)
                disk_record(r, DISK_LIMIT, limits->disk_bytes);
        if (!r->disk_hit && fs.f_ffree == 0)
                disk_record(r, DISK_LIMIT_FILES, MIN_OF(limits->disk_files, fs.f_files));
        return left < limits->disk_bytes / 8 || fs.f_ffree < fs.f_files / 8;
}

static int disk_look_timer(sd_event_source *source, uint64_t us, void *data);

static int disk_look_again(LiveRun *r, uint64_t delay_us) {
        r->disk_source = sd_event_source_disable_unref(r->disk_source);
        return sd_event_add_time_relative(r->sv->event, &r->disk_source, CLOCK_MONOTONIC, delay_us,
                                          0, disk_look_timer, r);
}

static int disk_look_timer(sd_event_source *source, uint64_t us, void *data) {
        return disk_look_again(data, disk_look(data) ? DISK_NEAR_US : DISK_INTERVAL_US);
}

/* ---- the limit is measured ---------------------------------------------------------------------
 */

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
        int ends[2], layers = openat(r->layers.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), k;
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
        r->disk_used_bytes = bytes;
        if (bytes < r->plan->limits->disk_bytes / 2)
                r->disk_baseline_bytes = disk_used(r);
        if (bytes > r->plan->limits->disk_bytes)
                live_run_stop(r, CARREL__V1__REASON__REASON_DISK_FULL,
                              "the workspace wrote more than its disk limit");
        return disk_watch(r, NULL);
}

/* ---- both --------------------------------------------------------------------------------------
 */

int disk_watch(LiveRun *r, Error **reterr) {
        int k;

        if (r->plan->limits->disk_bytes == 0 || r->layers.fd < 0)
                return 0;
        if (r->layers.limited) {
                k = disk_look_again(r, DISK_INTERVAL_US);
                return k < 0 ? error_set(reterr, -k, "cannot watch the disk limit") : 0;
        }
        if (r->disk_walked_us == 0) {
                r->disk_walked_us = clock_boottime_us();
                r->disk_baseline_bytes = disk_used(r);
        }
        r->disk_source = sd_event_source_disable_unref(r->disk_source);
        k = sd_event_add_time_relative(r->sv->event, &r->disk_source, CLOCK_MONOTONIC,
                                       DISK_INTERVAL_US, 0, disk_timer, r);
        return k < 0 ? error_set(reterr, -k, "cannot watch the disk limit") : 0;
}

void disk_note(LiveRun *r, const Carrel__V1__LimitHit *hit) {
        static const char *const limits[] = {DISK_LIMIT, DISK_LIMIT_FILES};

        for (size_t i = 0; i < ELEMENTSOF(limits); i++)
                if (strcmp(hit->limit, limits[i]) == 0) {
                        r->disk_hit = limits[i];
                        r->disk_hit_value = hit->value;
                }
}

/* The harness's or a check's own words are kept; that the disk was full explains them. */
static void disk_blame(LiveRun *r) {
        bool files = strcmp(r->disk_hit, DISK_LIMIT_FILES) == 0;
        /* Fewer files than the policy allows: there is no room for the others. */
        const char *raise =
                files && r->disk_hit_value < r->plan->limits->disk_files ? DISK_LIMIT : r->disk_hit;
        _cleanup_error_ Error *error = NULL;
        Outcome *o = r->outcome;

        error_refuse(&error, ENOSPC, NULL, "%s; the workspace's disk was full: its limit is %lu %s",
                     o->error ? o->error->what : "the run failed",
                     files ? r->disk_hit_value : r->disk_hit_value / MIB, files ? "files" : "MiB");
        error_hint(&error, -ENOSPC, "raise '%s' in the policy", raise);
        o->reason = CARREL__V1__REASON__REASON_DISK_FULL;
        message_free(o->error);
        o->error = error_to_message(error);
}

static bool disk_explains(const Outcome *o) {
        return o->state == CARREL__V1__RUN_STATE__RUN_STATE_FAILED &&
               (o->reason == CARREL__V1__REASON__REASON_HARNESS_FAILED ||
                o->reason == CARREL__V1__REASON__REASON_CHECKS_FAILED);
}

void disk_conclude(LiveRun *r) {
        Outcome *o = r->outcome;

        if (!o)
                return;
        if (r->layers.limited && r->layers.fd >= 0)
                (void)disk_look(r);
        if (!o->usage)
                o->usage = message_new(&carrel__v1__usage__descriptor);
        if (o->usage)
                o->usage->disk_bytes = r->disk_used_bytes;
        if (r->disk_hit && disk_explains(o))
                disk_blame(r);
}
