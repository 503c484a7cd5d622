/*
 * Taking over what another supervisor left
 *
 * A run that has not ended and whose lock is free has lost its supervisor. What the journal lacks
 * is in the spool; whether its shim lives, the spool's lock says. A record that never got as far as
 * a shim is ended with that reason. Nothing here differs from a run's normal life but where it
 * begins.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "supervisor/supervisor.h"
#include "workspace/resources.h"

#define RECOVER_MAX_PLAN  (4 * MIB)
#define RECOVER_MAX_TRIES 200
#define RECOVER_RETRY_US  (10 * USEC_PER_MSEC)

int recover_read_plan(int run_fd, Plan **ret_plan, Error **reterr) {
        _cleanup_free_ char *data = NULL;
        size_t size;
        int r = file_read_at(run_fd, "plan", RECOVER_MAX_PLAN, &data, &size, reterr);

        if (r == 0 &&
            (message_unpack(&carrel__v1__plan__descriptor, data, size, (void **)ret_plan) < 0 ||
             !(*ret_plan)->limits))
                r = error_refuse(reterr, EBADMSG, NULL, "the run's plan is damaged");
        return r;
}

/* A shim holds its spool's lock as long as it lives. */
static bool recover_shim_lives(int spool_fd) {
        if (flock(spool_fd, LOCK_EX | LOCK_NB) < 0)
                return true;
        (void)flock(spool_fd, LOCK_UN);
        return false;
}

static int recover_connect(int run_fd) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        /* A shim that accepts nobody any more must not hold us up. */
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(address.sun_path, sizeof address.sun_path,
                 "/proc/self/fd/%d/" SPOOL_DIR "/control.sock", run_fd);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/*
 * Who listens at the other end, to be killed should it not end by itself. A socket that is still
 * whole after the descriptor was had belongs to a process that lived then: its id was not
 * another's.
 */
static int recover_open_shim(int link) {
        struct pollfd poll_link = {.fd = link};
        struct ucred peer = {0};
        socklen_t size = sizeof peer;
        _cleanup_close_ int fd = -EBADF;

        if (getsockopt(link, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.pid <= 0)
                return -EBADF;
        fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
        if (fd < 0 || poll(&poll_link, 1, 0) < 0 || (poll_link.revents & (POLLHUP | POLLERR)))
                return -EBADF;
        return TAKE_FD(fd);
}

/* What the journal says of feedback: so that what was delivered is not delivered again. */
static int recover_replay(LiveRun *r, Error **reterr) {
        _cleanup_(journal_cursor_freep) JournalCursor *cursor = NULL;
        int k = journal_cursor_open(r->run_fd, 0, &cursor, reterr);

        while (k >= 0) {
                _cleanup_message_ Event *event = NULL;

                k = journal_cursor_next(cursor, &event, reterr);
                if (k == 0)
                        return 0;
                if (k > 0)
                        live_run_apply(r, event);
        }
        return k;
}

static int recover_attach(LiveRun *r, Error **reterr) {
        Carrel__V1__Adopted adopted = CARREL__V1__ADOPTED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        int k = recover_replay(r, reterr), link;
        _cleanup_error_ Error *error = NULL;

        if (k < 0)
                return k;
        if (layers_open(r->run_fd, &r->layers, &error) < 0)
                log_error(LOG_LEVEL_ERROR, error, "run '%s'", r->info->id);
        adopted.supervisor_pid = (uint32_t)getpid();
        event.body_case = CARREL__V1__EVENT__BODY_ADOPTED;
        event.adopted = &adopted;
        live_run_append(r, &event);
        r->spool.fd = openat(r->run_fd, SPOOL_EVENTS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        link = r->spool.fd >= 0 && recover_shim_lives(r->spool.fd) ? recover_connect(r->run_fd)
                                                                   : -ENOENT;
        if (link < 0) {
                finish_begin(r);
                return 0;
        }
        r->shim_pidfd = recover_open_shim(link);
        k = live_run_follow(r, link, reterr);
        return k < 0 ? k : disk_watch(r, reterr);
}

/*
 * A record that cannot be read any more cannot be written to its end either. What the run holds is
 * given back, and the index says why nothing more is known; the record itself is left as it is.
 */
static void recover_abandon(LiveRun *r, const Error *why) {
        Supervisor *sv = r->sv;
        Outcome *outcome = message_new(&carrel__v1__outcome__descriptor);
        int k = -EBUSY;

        for (unsigned tries = 0; k == -EBUSY && tries < RECOVER_MAX_TRIES; tries++) {
                if (tries > 0)
                        (void)usleep(RECOVER_RETRY_US);
                k = resources_release(sv->state_fd, r->run_fd, r->info->id, NULL);
        }
        (void)fd_remove_tree(r->run_fd, SPOOL_DIR, NULL);
        if (outcome) {
                outcome->state = CARREL__V1__RUN_STATE__RUN_STATE_ERRORED;
                outcome->reason = CARREL__V1__REASON__REASON_INTERNAL;
                outcome->error = error_to_message(why);
                r->info->state = outcome->state;
                r->info->outcome = outcome;
                (void)index_put(sv->index, r->info, NULL);
        }
        live_run_free(r);
}

static int recover_run(Supervisor *sv, const Run *found, Error **reterr) {
        _cleanup_close_ int run_fd = state_open_run(sv, found->id, reterr), lock_fd = -EBADF;
        _cleanup_message_ Run *info = message_copy(&found->base);
        Plan *plan = NULL;
        LiveRun *r = NULL;
        int k;

        if (run_fd == -ENOENT) { /* a row without a record */
                (void)index_remove(sv->index, found->id, NULL);
                return run_fd;
        }
        if (run_fd < 0)
                return run_fd;
        lock_fd = state_lock_run(run_fd, reterr);
        if (lock_fd < 0)
                return lock_fd == -EWOULDBLOCK ? 0 : lock_fd;
        k = recover_read_plan(run_fd, &plan, reterr);
        if (k < 0)
                return k;
        if (!info) {
                message_free(plan);
                return error_set(reterr, ENOMEM, "cannot recover");
        }
        k = live_run_new(sv, TAKE_PTR(info), plan, TAKE_FD(run_fd), TAKE_FD(lock_fd), &r, reterr);
        if (!r)
                return k;
        r->adopted = true;
        if (k == 0)
                k = recover_attach(r, reterr);
        if (k < 0)
                recover_abandon(r, reterr ? *reterr : NULL);
        return k;
}

typedef struct RecoverList {
        Run **runs;
        size_t n;
} RecoverList;

static int recover_remember(const Run *run, void *data) {
        RecoverList *list = data;
        Run *copy = message_copy(&run->base);

        return copy ? message_append(&list->runs, &list->n, copy) : -ENOMEM;
}

/* A directory that no row knows: its supervisor died between the two, before anybody was told of
 * the run. */
static void recover_sweep(Supervisor *sv) {
        int fd = openat(sv->runs_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *de;

        while (dir && (de = readdir(dir))) {
                _cleanup_message_ Run *known = NULL;
                _cleanup_close_ int run_fd = -EBADF, lock_fd = -EBADF;

                if (de->d_name[0] == '.' ||
                    index_find(sv->index, de->d_name, &known, NULL) != -ENOENT)
                        continue;
                run_fd = state_open_run(sv, de->d_name, NULL);
                lock_fd = run_fd < 0 ? -EBADF : state_lock_run(run_fd, NULL);
                if (lock_fd < 0)
                        continue;
                log_line(LOG_LEVEL_WARNING, "run '%s' was never started: its directory is removed",
                         de->d_name);
                (void)resources_release(sv->state_fd, run_fd, de->d_name, NULL);
                (void)fd_remove_tree(sv->runs_fd, de->d_name, NULL);
        }
        if (dir)
                closedir(dir);
        else
                fd_close(fd);
}

/* A run that ended, and whose supervisor died before it had given back the rest. */
static void recover_release(const char *id, void *data) {
        _cleanup_close_ int run_fd = -EBADF, lock_fd = -EBADF;
        _cleanup_message_ Run *run = NULL;
        _cleanup_error_ Error *error = NULL;
        Supervisor *sv = data;
        int r = index_find(sv->index, id, &run, NULL);

        if (r != -ENOENT && (r < 0 || run->state < CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED))
                return;
        run_fd = state_open_run(sv, id, NULL);
        lock_fd = run_fd < 0 ? -EBADF : state_lock_run(run_fd, NULL);
        if (run_fd >= 0 && lock_fd < 0)
                return;
        if (resources_release(sv->state_fd, run_fd, id, &error) < 0)
                log_error(LOG_LEVEL_ERROR, error, "run '%s' leaves something behind", id);
        if (run_fd >= 0)
                (void)fd_remove_tree(run_fd, SPOOL_DIR, NULL);
}

int recover_all(Supervisor *sv, Error **reterr) {
        RecoverList list = {0};
        int r = index_list(sv->index, true, UINT32_MAX, recover_remember, &list, reterr);

        for (size_t i = 0; i < list.n; i++) {
                _cleanup_error_ Error *error = NULL;

                if (r >= 0 && recover_run(sv, list.runs[i], &error) < 0)
                        log_error(LOG_LEVEL_ERROR, error, "run '%s' cannot be recovered",
                                  list.runs[i]->id);
                message_free(list.runs[i]);
        }
        free(list.runs);
        if (!sv->embedded)
                recover_sweep(sv);
        return r < 0 ? r : resources_find_owners(sv->state_fd, recover_release, sv, reterr);
}
