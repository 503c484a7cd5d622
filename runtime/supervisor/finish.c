/*
 * From a dead shim to a closed record
 *
 *      drain     what the spool still holds goes to the journal
 *      stop      processes and control groups, until the kernel has let go of them
 *      patch     if the run changed its source, carrel-patch writes the difference, confined, as an
 * artifact, and reports what is protected (protect.c)
 *      close     the `finished` event, the index; then the layers, the id range and the spool
 * are given back
 *
 * Every step can be done again: a supervisor that dies here is followed by one that starts over.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "kernel/mount.h"
#include "record/store.h"
#include "supervisor/supervisor.h"
#include "workspace/resources.h"

#define FINISH_RETRY_US         (1 * USEC_PER_MSEC)
#define FINISH_MAX_RETRIES      10000
#define FINISH_PATCH_TIMEOUT_US (120 * USEC_PER_SEC)
#define FINISH_PATCH_NAME       "workspace.patch"
#define FINISH_PATCH_TRUNCATED  3 /* carrel-patch's status for a patch that had to end early */

static void finish_schedule(LiveRun *r, uint64_t delay_us, sd_event_time_handler_t step);

/* ---- close --------------------------------------------------------------------------------------
 */

static void finish_lost_outcome(LiveRun *r) {
        Error *error = NULL;

        r->outcome = message_new(&carrel__v1__outcome__descriptor);
        if (!r->outcome)
                return;
        r->outcome->attempts = r->info->attempt;
        if (deadline_explains(r, r->outcome))
                return;
        error_refuse(&error, ECONNRESET, "see who killed it: the kernel's log, or an operator",
                     "the run's shim ended before its run did");
        r->outcome->state = CARREL__V1__RUN_STATE__RUN_STATE_ERRORED;
        r->outcome->reason = CARREL__V1__REASON__REASON_SHIM_LOST;
        r->outcome->error = error_to_message(error);
        error_free(error);
}

/* What nobody waits for: the record's last bytes reach the disk, layers and id range are given
 * back. */
static int finish_give_back(LiveRun *r) {
        _cleanup_error_ Error *error = NULL;

        (void)journal_sync(r->journal, NULL);
        (void)fd_remove_tree(r->run_fd, SPOOL_DIR, NULL);
        if (resources_release(r->sv->state_fd, r->run_fd, r->info->id, &error) == 0)
                return 0;
        log_error(LOG_LEVEL_ERROR, error, "run '%s' leaves something behind", r->info->id);
        return 1;
}

static void finish_free(LiveRun *r) {
        Supervisor *sv = r->sv;

        live_run_free(r);
        session_check_end(sv);
}

static int finish_given_back(sd_event_source *source, const siginfo_t *info, void *data) {
        finish_free(data);
        return 0;
}

/* To remove a tree takes as long as the disk likes: a child does it, and the loop goes on. */
static int finish_janitor(sd_event_source *source, uint64_t us, void *data) {
        LiveRun *r = data;
        pid_t pid = fork();

        if (pid == 0)
                _exit(finish_give_back(r));
        /* A volume's last descriptor writes out what is dirty, and waits for it: let the child's be
         * the last. */
        if (pid > 0)
                r->layers.fd = fd_close(r->layers.fd);
        r->helper_source = sd_event_source_disable_unref(r->helper_source);
        if (pid > 0 && sd_event_add_child(r->sv->event, &r->helper_source, pid, WEXITED,
                                          finish_given_back, r) >= 0)
                return 0;
        finish_give_back(r); /* no child to be had */
        finish_free(r);
        return 0;
}

static void finish_close(LiveRun *r) {
        Carrel__V1__Finished finished = CARREL__V1__FINISHED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_error_ Error *error = NULL;

        r->info->state = r->outcome->state;
        r->info->outcome = message_copy(&r->outcome->base);
        r->info->finished_unix_us = clock_unix_us();
        finished.outcome = r->outcome;
        event.body_case = CARREL__V1__EVENT__BODY_FINISHED;
        event.finished = &finished;
        live_run_append(r, &event);
        r->index_timer = sd_event_source_disable_unref(r->index_timer);
        if (index_put(r->sv->index, r->info, &error) < 0)
                log_error(LOG_LEVEL_WARNING, error, "run '%s'", r->info->id);
        finish_schedule(r, 0, finish_janitor);
}

/* ---- patch --------------------------------------------------------------------------------------
 */

static int finish_store_patch(void *data, char ret_digest[static WORKER_MAX_TEXT], Error **reterr) {
        _cleanup_free_ char *digest = NULL;
        LiveRun *r = data;
        struct stat st;
        int k;

        if (fstat(r->patch_fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at the patch");
        if (st.st_size == 0)
                return 0;
        k = store_put(r->sv->artifacts_fd, r->patch_fd, 0, (uint64_t)st.st_size, NULL, &digest,
                      reterr);
        if (k == 0)
                snprintf(ret_digest, WORKER_MAX_TEXT, "%s", digest);
        return k;
}

static void finish_publish_patch(LiveRun *r, const char *digest) {
        Carrel__V1__ArtifactPublished published = CARREL__V1__ARTIFACT_PUBLISHED__INIT;
        char name[] = FINISH_PATCH_NAME, origin[] = "supervisor", text[WORKER_MAX_TEXT];
        Event event = CARREL__V1__EVENT__INIT;
        struct stat st;

        if (!*digest || fstat(r->patch_fd, &st) < 0)
                return; /* nothing is different */
        snprintf(text, sizeof text, "%s", digest);
        published.name = name;
        published.origin = origin;
        published.digest = text;
        published.size_bytes = (uint64_t)st.st_size;
        published.attempt = r->info->attempt;
        event.body_case = CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED;
        event.artifact_published = &published;
        live_run_append(r, &event);
}

static void finish_patch_stored(void *data, const char *digest, const Error *error) {
        LiveRun *r = data;

        r->worker = worker_free(r->worker);
        if (error)
                live_run_degraded(r, error_new_copy(error->code, error->what, error->hint, NULL));
        else
                finish_publish_patch(r, digest);
        protect_judge(r);
        finish_close(r);
}

static int finish_patch_ended(sd_event_source *source, const siginfo_t *info, void *data) {
        bool whole = info->si_code == CLD_EXITED && info->si_status == 0;
        LiveRun *r = data;
        Error *error = NULL;

        r->patch_timer = sd_event_source_disable_unref(r->patch_timer);
        if (!whole) {
                error_refuse(&error, EIO,
                             "the changes themselves are kept: carrel apply, carrel diff --stat",
                             "the run's patch is %s (carrel-patch ended with %d)",
                             info->si_status == FINISH_PATCH_TRUNCATED ? "not complete" : "missing",
                             info->si_status);
                live_run_degraded(r, error);
        }
        if (whole || (info->si_code == CLD_EXITED && info->si_status == FINISH_PATCH_TRUNCATED)) {
                Error *failed = NULL;

                if (worker_start(r->sv->event, finish_store_patch, finish_patch_stored, r,
                                 &r->worker, &failed) == 0)
                        return 0;
                live_run_degraded(r, failed);
        }
        protect_judge(r);
        finish_close(r);
        return 0;
}

static int finish_patch_timeout(sd_event_source *source, uint64_t us, void *data) {
        LiveRun *r = data;

        (void)sd_event_source_send_child_signal(r->helper_source, SIGKILL, NULL, 0);
        return 0;
}

/* carrel-patch's contract: 3 the original, 4 the changes, 5 an empty directory, 6 the report,
 * stdout the patch. */
static _Noreturn void
finish_patch_child(const LiveRun *r, char **argv, int lower, int upper, int output) {
        const char *path = r->sv->paths.patch;
        int null = open("/dev/null", O_RDWR | O_CLOEXEC), report;
        sigset_t none;

        sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        lower = fcntl(lower, F_DUPFD_CLOEXEC, 16);
        upper = fcntl(upper, F_DUPFD_CLOEXEC, 16);
        output = fcntl(output, F_DUPFD_CLOEXEC, 16);
        report = fcntl(r->report_fd, F_DUPFD_CLOEXEC, 16);
        if (dup2(r->sv->empty_fd, 5) < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 ||
            dup2(null, 2) < 0 || dup2(lower, 3) < 0 || dup2(upper, 4) < 0 || dup2(report, 6) < 0 ||
            syscall(SYS_close_range, 7, ~0U, 0) < 0)
                _exit(126);
        execve(path, argv, (char *[]){NULL});
        _exit(127);
}

static int finish_start_patch(LiveRun *r, int lower, int upper, Error **reterr) {
        _cleanup_free_ char **argv = protect_arguments(r);
        pid_t pid;
        int k;

        r->patch_fd = openat(r->run_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
        if (r->patch_fd < 0)
                return error_set(reterr, errno, "cannot make room for the patch");
        r->report_fd = protect_open_report(reterr);
        if (r->report_fd < 0)
                return r->report_fd;
        if (!argv)
                return error_set(reterr, ENOMEM, "cannot start carrel-patch");
        pid = fork();
        if (pid == 0)
                finish_patch_child(r, argv, lower, upper, r->patch_fd);
        if (pid < 0)
                return error_set(reterr, errno, "cannot start carrel-patch");
        k = sd_event_add_child(r->sv->event, &r->helper_source, pid, WEXITED, finish_patch_ended,
                               r);
        if (k >= 0)
                k = sd_event_add_time_relative(r->sv->event, &r->patch_timer, CLOCK_MONOTONIC,
                                               FINISH_PATCH_TIMEOUT_US, 0, finish_patch_timeout, r);
        return k < 0 ? error_set(reterr, -k, "cannot wait for carrel-patch") : 0;
}

/*
 * Without root carrel-patch has nobody else to be than the user, who may write both. Opened anew,
 * by paths: what is no mount of this namespace cannot be taken as another one (Linux < 6.15).
 */
static int finish_make_read_only(LiveRun *r, int at_fd, const char *path, int *fd, Error **reterr) {
        _cleanup_close_ int found = -EBADF, tree = -EBADF;
        int k;

        if (r->sv->layout == USERNS_LAYOUT_HOST)
                return 0;
        found = openat(at_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (found < 0)
                return error_set(reterr, errno, "cannot open '%s'", path);
        tree = mount_clone_trees(found, (MountFlags){0}, path, reterr);
        k = tree < 0 ? tree : openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (k < 0)
                return error_set(reterr, errno, "cannot open '%s' to read", path);
        fd_close(*fd);
        *fd = k;
        return 0;
}

static int finish_make_both_read_only(LiveRun *r, int *lower, int *upper, Error **reterr) {
        int k = finish_make_read_only(r, AT_FDCWD, r->info->source, lower, reterr);

        return k < 0 ? k
                     : finish_make_read_only(r, r->run_fd, LAYERS_DIRECTORY "/source/upper", upper,
                                             reterr);
}

static void finish_patch(LiveRun *r) {
        _cleanup_close_ int upper = -EBADF, lower = -EBADF;
        Error *error = NULL;

        if (!*r->info->source) {
                finish_close(r);
                return;
        }
        if (r->layers.fd < 0 && layers_open(r->run_fd, &r->layers, &error) < 0) {
                live_run_degraded(r, error);
                protect_judge(r);
                finish_close(r);
                return;
        }
        upper = openat(r->layers.fd, "source/upper",
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (upper < 0)
                protect_judge(r);
        if (upper < 0 || fd_directory_is_empty(upper)) { /* nothing was written */
                finish_close(r);
                return;
        }
        lower = open(r->info->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lower < 0)
                error_set(&error, errno, "cannot open the original directory '%s'",
                          r->info->source);
        else if (finish_make_both_read_only(r, &lower, &upper, &error) == 0 &&
                 finish_start_patch(r, lower, upper, &error) == 0)
                return;
        live_run_degraded(r, error);
        protect_judge(r);
        finish_close(r);
}

/* ---- release ------------------------------------------------------------------------------------
 */

static int finish_release(sd_event_source *source, uint64_t us, void *data) {
        _cleanup_error_ Error *error = NULL;
        LiveRun *r = data;
        int k = resources_stop(r->sv->state_fd, r->run_fd, r->info->id, &error);

        if (k == -EBUSY && r->release_tries++ < FINISH_MAX_RETRIES) {
                finish_schedule(r, FINISH_RETRY_US, finish_release);
                return 0;
        }
        if (k < 0) {
                log_error(LOG_LEVEL_ERROR, error, "run '%s' leaves something behind", r->info->id);
                live_run_degraded(r, TAKE_PTR(error));
        }
        if (!r->outcome)
                finish_lost_outcome(r);
        disk_conclude(r);
        if (r->outcome)
                finish_patch(r);
        return 0;
}

static void finish_schedule(LiveRun *r, uint64_t delay_us, sd_event_time_handler_t step) {
        r->finish_timer = sd_event_source_disable_unref(r->finish_timer);
        if (sd_event_add_time_relative(r->sv->event, &r->finish_timer, CLOCK_MONOTONIC, delay_us, 1,
                                       step, r) < 0)
                log_line(LOG_LEVEL_ERROR, "run '%s' cannot be finished: out of memory",
                         r->info->id);
}

void finish_drained(LiveRun *r) {
        r->spool.fd = fd_close(r->spool.fd); /* nothing more comes, and this is told once */
        (void)finish_release(NULL, 0, r);
}

void finish_begin(LiveRun *r) {
        if (r->finishing)
                return;
        r->finishing = true;
        r->spool_source = sd_event_source_disable_unref(r->spool_source);
        r->disk_source = sd_event_source_disable_unref(r->disk_source);
        r->deadline = sd_event_source_disable_unref(r->deadline);
        /* Its link has ended: it is gone, or has lost the right to live. */
        if (r->shim_pidfd >= 0)
                (void)syscall(SYS_pidfd_send_signal, r->shim_pidfd, SIGKILL, NULL, 0);
        live_run_read(r);
}
