/*
 * From a submission to a running shim
 *
 *      check     task, policy, image, plan, source, credentials: all that can be refused, before
 * anything exists create    the record's directory with what was submitted and compiled, the
 * journal, the index acquire   id range, layers, control groups spawn     ask the zygote
 *
 * A failure after `create` takes everything back, and the submitter is told; nothing is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "images/image.h"
#include "policy/compile.h"
#include "policy/policy.h"
#include "proto/text/text.h"
#include "supervisor/session.h"
#include "workspace/resources.h"
#include "workspace/workspace.h"

#define SUBMIT_MAX_GRANT (64 * KIB)

/* Everything that a run is made of, before there is one. */
typedef struct Submission {
        Session *session;
        const Carrel__V1__SubmitRequest *request;
        Frame *frame;
        Policy *policy;
        Image *image;
        Plan *plan;
        char *plan_digest;
        int sources[WORKSPACE_MAX_SOURCES];
        size_t n_sources;
        int source_fd; /* one of these: the task's directory, or -EBADF; borrowed */
        SpawnRequest *spawn;
} Submission;

static void submission_done(Submission *sub) {
        message_free(sub->policy);
        message_free(sub->image);
        message_free(sub->plan);
        free(sub->plan_digest);
        fd_close_many(sub->sources, sub->n_sources);
        if (sub->spawn) {
                for (size_t i = 0; i < sub->spawn->n_grants; i++)
                        explicit_bzero(sub->spawn->grants[i]->value.data,
                                       sub->spawn->grants[i]->value.len);
                sub->spawn->plan = NULL;
                message_free(sub->spawn);
        }
}

/* ---- check --------------------------------------------------------------------------------------
 */

static int submit_compile(Submission *sub, Error **reterr) {
        const Supervisor *sv = sub->session->sv;
        const char *const *profiles = sv->paths.profiles;
        const char *const images[] = {sv->paths.images, NULL};
        const Task *task = sub->request->task;
        _cleanup_free_ char *image_text = NULL;
        int r;

        if (!task)
                return error_field(
                        reterr,
                        error_refuse(reterr, EINVAL, NULL, "no task came with the submission"),
                        "task");
        r = task_check(task, reterr);
        if (r < 0)
                return r;
        r = sub->request->policy
                    ? policy_resolve(profiles, sub->request->policy, &sub->policy, reterr)
                    : policy_load(profiles, NULL, *task->policy ? task->policy : "default",
                                  &sub->policy, reterr);
        if (r == 0)
                r = policy_check(sub->policy, reterr);
        if (r < 0)
                return error_field(reterr, r, "policy");
        r = image_load(images, *task->image ? task->image : "host", &sub->image, reterr);
        if (r < 0)
                return error_field(reterr, r, "image");
        if (r == 0)
                r = image_digest(sub->image, &image_text, reterr);
        if (r == 0)
                r = plan_compile(task, sub->policy, sub->image, image_text, &sub->plan, reterr);
        if (r == 0)
                r = plan_digest(sub->plan, &sub->plan_digest, reterr);
        return r;
}

static bool submit_resolve(int fd, char *ret_path, size_t size) {
        char link[48];
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, ret_path, size - 1);
        ret_path[n > 0 ? n : 0] = 0;
        return n > 0;
}

static bool submit_path_is_in(const char *path, const char *parent) {
        size_t n = strlen(parent);

        return strcmp(parent, "/") == 0 ||
               (strncmp(path, parent, n) == 0 && (path[n] == '/' || !path[n]));
}

/*
 * A run sees no record of another: nothing of the state directory, and nothing that it lies in. A
 * user's own may lie in what is shown, as in a home; there the harness is the user in any case.
 */
static int submit_check_records(const Supervisor *sv, int fd, const PlanMount *m, Error **reterr) {
        char state[PATH_MAX], path[PATH_MAX];
        bool below, above;

        if (!submit_resolve(sv->state_fd, state, sizeof state) ||
            !submit_resolve(fd, path, sizeof path))
                return error_set(reterr, errno, "cannot tell where '%s' is", m->source);
        below = submit_path_is_in(path, state);
        above = sv->layout == USERNS_LAYOUT_HOST && submit_path_is_in(state, path);
        if (!below && !above)
                return 0;
        return error_refuse(reterr, EPERM, "show a directory of its own, beside the records",
                            "'%s' cannot be shown in a workspace: %s carrel's state directory '%s'",
                            m->source, below ? "it is in" : "it holds", state);
}

/* The host tree of one mount, held by a descriptor from now on. */
static int submit_open_source(Submission *sub, const PlanMount *m, Error **reterr) {
        const Carrel__V1__PlanIdentity *who = sub->plan->identity;
        int fd = -EBADF, r;

        if (m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT && !*m->source) {
                const Supervisor *sv = sub->session->sv;
                ImageUser user = {.name = who->user, .uid = who->uid};

                if (sv->layout == USERNS_LAYOUT_HOST)
                        user.owner = who->uid;
                r = roots_open(sub->session->sv, sub->image, sub->plan->image_digest, &user, &fd,
                               reterr);
                return r < 0 ? r : fd;
        }
        fd = open(m->source,
                  O_PATH | O_CLOEXEC |
                          (m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_BIND ? 0 : O_DIRECTORY));
        if (fd < 0) {
                r = error_set(reterr, errno, "cannot open '%s' for the workspace's '%s'", m->source,
                              m->target);
                return error_hint(reterr, r, "create it, or drop it from the task or policy");
        }
        r = submit_check_records(sub->session->sv, fd, m, reterr);
        if (r < 0) {
                fd_close(fd);
                return r;
        }
        return fd;
}

static int submit_open_sources(Submission *sub, Error **reterr) {
        for (size_t i = 0; i < sub->plan->n_mounts; i++) {
                const PlanMount *m = sub->plan->mounts[i];
                int fd;

                if (!workspace_mount_needs_source(m))
                        continue;
                if (sub->n_sources == WORKSPACE_MAX_SOURCES)
                        return error_field(reterr,
                                           error_refuse(reterr, E2BIG, "show fewer host trees",
                                                        "the policy has too many mounts"),
                                           "filesystem.mounts");
                fd = submit_open_source(sub, m, reterr);
                if (fd < 0)
                        return fd;
                sub->sources[sub->n_sources++] = fd;
                if (m->kind == CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE)
                        sub->source_fd = fd;
        }
        return 0;
}

static int
submit_read_grant(const Carrel__V1__PlanGrant *grant, GrantValue *value, Error **reterr) {
        char *data = NULL;
        size_t size;
        int r;

        if (message_set_string(&value->name, grant->name) < 0)
                return error_set(reterr, ENOMEM, "cannot read grant '%s'", grant->name);
        r = file_read_at(AT_FDCWD, grant->file, SUBMIT_MAX_GRANT, &data, &size, reterr);
        if (r < 0)
                return error_field(reterr, error_wrap(reterr, r, "grant '%s'", grant->name),
                                   "grants");
        value->value = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)data};
        return 0;
}

static int submit_find_sent(const Submission *sub, const char *name, GrantValue **ret_value) {
        for (size_t i = 0; i < sub->request->n_grants; i++)
                if (strcmp(sub->request->grants[i]->name, name) == 0) {
                        *ret_value = message_copy(&sub->request->grants[i]->base);
                        return *ret_value ? 0 : -ENOMEM;
                }
        return -ENOENT;
}

static int submit_grants(Submission *sub, Error **reterr) {
        for (size_t i = 0; i < sub->plan->n_grants; i++) {
                const Carrel__V1__PlanGrant *grant = sub->plan->grants[i];
                _cleanup_message_ GrantValue *value = NULL;
                int r;

                if (*grant->file) {
                        value = message_new(&carrel__v1__grant_value__descriptor);
                        r = value ? submit_read_grant(grant, value, reterr)
                                  : error_set(reterr, ENOMEM, "cannot read a grant");
                } else {
                        r = submit_find_sent(sub, grant->name, &value);
                        if (r < 0)
                                r = error_field(reterr,
                                                error_refuse(reterr, EINVAL,
                                                             "name a 'file', or send the value "
                                                             "with the submission",
                                                             "grant '%s' has no value",
                                                             grant->name),
                                                "grants[%zu]", i);
                }
                if (r < 0)
                        return r;
                if (value->value.len < 4 || value->value.len > SUBMIT_MAX_GRANT)
                        return error_field(
                                reterr,
                                error_refuse(reterr, EINVAL,
                                             "shorter ones cannot be kept out of logs",
                                             "the value of grant '%s' must have 4 to %lu bytes",
                                             grant->name, SUBMIT_MAX_GRANT),
                                "grants[%zu]", i);
                if (message_append(&sub->spawn->grants, &sub->spawn->n_grants, value) < 0)
                        return error_set(reterr, ENOMEM, "cannot hold the grants");
                value = NULL;
        }
        return 0;
}

static int submit_attachment(Submission *sub, Error **reterr) {
        const Carrel__V1__SubmitRequest *q = sub->request;
        size_t want = !q->attach ? 0 : q->terminal ? 1 : 3;

        if (sub->frame->n_fds != want)
                return error_refuse(
                        reterr, EBADMSG,
                        "send stdin, stdout and stderr, or one descriptor for a terminal",
                        "the submission came with %zu descriptors, not %zu", sub->frame->n_fds,
                        want);
        sub->spawn->attach = q->attach;
        if (q->terminal) {
                sub->spawn->terminal = message_copy(&q->terminal->base);
                if (!sub->spawn->terminal)
                        return error_set(reterr, ENOMEM, "cannot submit");
        }
        return 0;
}

static int submit_check(Submission *sub, Error **reterr) {
        int r = submit_compile(sub, reterr);

        if (r == 0)
                r = submit_open_sources(sub, reterr);
        if (r < 0)
                return r;
        sub->spawn = message_new(&carrel__v1__spawn_request__descriptor);
        if (!sub->spawn)
                return error_set(reterr, ENOMEM, "cannot submit");
        sub->spawn->plan = sub->plan;
        r = submit_grants(sub, reterr);
        return r < 0 ? r : submit_attachment(sub, reterr);
}

/* ---- create -------------------------------------------------------------------------------------
 */

/* The task's name, for people, and 40 random bits, for everything else. */
static int submit_make_directory(Submission *sub, char **ret_id, int *ret_fd, Error **reterr) {
        static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* Crockford's base 32 */
        Supervisor *sv = sub->session->sv;

        for (unsigned tries = 0; tries < 16; tries++) {
                _cleanup_free_ char *id = NULL;
                uint8_t random[8];
                char suffix[9] = {0};

                if (getrandom(random, sizeof random, 0) != sizeof random)
                        return error_set(reterr, errno, "cannot make a run id");
                for (size_t i = 0; i < 8; i++)
                        suffix[i] = digits[random[i] & 31];
                if (asprintf(&id, "%s-%s", sub->plan->name, suffix) < 0)
                        return error_set(reterr, ENOMEM, "cannot make a run id");
                if (mkdirat(sv->runs_fd, id, 0700) < 0) {
                        if (errno == EEXIST)
                                continue;
                        return error_set(reterr, errno, "cannot create the record of run '%s'", id);
                }
                *ret_fd = state_open_run(sv, id, reterr);
                *ret_id = TAKE_PTR(id);
                return *ret_fd < 0 ? *ret_fd : 0;
        }
        return error_refuse(reterr, EEXIST, NULL, "cannot find a free run id");
}

static int submit_write_message(int run_fd, const char *name, const Message *m, Error **reterr) {
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        if (message_pack(m, &data, &size) < 0)
                return error_set(reterr, ENOMEM, "cannot write '%s'", name);
        return file_create_at(run_fd, name, 0600, data, size, reterr);
}

static int submit_describe(const Submission *sub, const char *id, Run **ret_info, Error **reterr) {
        _cleanup_message_ Run *info = message_new(&carrel__v1__run__descriptor);
        _cleanup_free_ char *record = NULL;

        if (!info || asprintf(&record, "%s/runs/%s", sub->session->sv->paths.state, id) < 0 ||
            message_set_string(&info->id, id) < 0 ||
            message_set_string(&info->name, sub->plan->name) < 0 ||
            message_set_string(&info->owner, sub->plan->owner) < 0 ||
            message_set_string(&info->plan_digest, sub->plan_digest) < 0 ||
            message_set_string(&info->source, sub->plan->source) < 0 ||
            message_set_string(&info->record, record) < 0 ||
            message_set_string(&info->image, sub->plan->image) < 0)
                return error_set(reterr, ENOMEM, "cannot submit");
        info->state = CARREL__V1__RUN_STATE__RUN_STATE_PREPARING;
        info->submitted_unix_us = clock_unix_us();
        *ret_info = TAKE_PTR(info);
        return 0;
}

static void submit_record_submitted(LiveRun *run, const Submission *sub) {
        Carrel__V1__Submitted submitted = CARREL__V1__SUBMITTED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        submitted.run = run->info->id;
        submitted.name = run->info->name;
        submitted.owner = run->info->owner;
        submitted.plan_digest = run->info->plan_digest;
        submitted.image_digest = sub->plan->image_digest;
        submitted.submitter_uid = sub->session->uid;
        event.body_case = CARREL__V1__EVENT__BODY_SUBMITTED;
        event.submitted = &submitted;
        live_run_append(run, &event);
}

static int submit_create(Submission *sub, LiveRun **ret_run, Error **reterr) {
        Supervisor *sv = sub->session->sv;
        _cleanup_close_ int run_fd = -EBADF, lock_fd = -EBADF;
        _cleanup_message_ Run *info = NULL;
        _cleanup_free_ char *id = NULL;
        Plan *plan;
        int r = submit_make_directory(sub, &id, &run_fd, reterr);

        if (r == 0)
                r = lock_fd = state_lock_run(run_fd, reterr);
        if (r >= 0)
                r = submit_write_message(run_fd, "task", &sub->request->task->base, reterr);
        if (r >= 0)
                r = submit_write_message(run_fd, "policy", &sub->policy->base, reterr);
        if (r >= 0)
                r = submit_write_message(run_fd, "plan", &sub->plan->base, reterr);
        if (r >= 0)
                r = submit_describe(sub, id, &info, reterr);
        plan = r >= 0 ? message_copy(&sub->plan->base) : NULL;
        if (r >= 0 && !plan)
                r = error_set(reterr, ENOMEM, "cannot submit");
        if (r >= 0)
                r = live_run_new(sv, TAKE_PTR(info), plan, TAKE_FD(run_fd), TAKE_FD(lock_fd),
                                 ret_run, reterr);
        if (r < 0) {
                if (id)
                        (void)fd_remove_tree(sv->runs_fd, id, NULL);
                return r;
        }
        submit_record_submitted(*ret_run, sub);
        if (sv->layout != USERNS_LAYOUT_HOST)
                rootless_record(*ret_run);
        return index_put(sv->index, (*ret_run)->info, reterr);
}

/* ---- spawn --------------------------------------------------------------------------------------
 */

static int
submit_ask_zygote(Submission *sub, LiveRun *run, const int *fds, size_t n_fds, Error **reterr) {
        Supervisor *sv = sub->session->sv;
        _cleanup_message_ Carrel__V1__SpawnResponse *response = NULL;
        int r = frame_send(sv->zygote_fd, &sub->spawn->base, fds, n_fds, reterr);

        if (r == 0)
                r = frame_receive(sv->zygote_fd, &carrel__v1__spawn_response__descriptor, 64 * KIB,
                                  (void **)&response, &run->shim_pidfd, 1, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot start a shim");
        if (response->error) {
                Error *error = error_from_message(response->error);

                r = -response->error->code;
                error_move(reterr, &error);
        }
        return r;
}

static int submit_spawn(Submission *sub, LiveRun *run, const Resources *res, Error **reterr) {
        _cleanup_close_ int ours = -EBADF, theirs = -EBADF, spool = -EBADF;
        int fds[FRAME_MAX_FDS], link[2], r;
        size_t n = 0;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) < 0)
                return error_set(reterr, errno, "cannot start a shim");
        ours = link[0];
        theirs = link[1];
        r = spool_create(run->run_fd, &spool, reterr);
        if (r < 0)
                return r;
        run->spool.fd = openat(run->run_fd, SPOOL_EVENTS, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (run->spool.fd < 0)
                return error_set(reterr, errno, "cannot open the spool");
        fds[n++] = run->run_fd;
        fds[n++] = sub->session->sv->empty_fd;
        fds[n++] = spool;
        fds[n++] = run->layers.fd;
        for (size_t i = 0; i < sub->n_sources; i++)
                fds[n++] = sub->sources[i];
        for (size_t i = 0; i < sub->frame->n_fds; i++)
                fds[n++] = sub->frame->fds[i];
        fds[n++] = theirs;
        sub->spawn->base_id = res->base_id;
        sub->spawn->shim_id = res->shim_id;
        if (message_set_string(&sub->spawn->run, run->info->id) < 0)
                return error_set(reterr, ENOMEM, "cannot start a shim");
        r = submit_ask_zygote(sub, run, fds, n, reterr);
        if (r < 0)
                return r;
        return live_run_follow(run, TAKE_FD(ours), reterr);
}

static int submit_start(Submission *sub, LiveRun *run, Error **reterr) {
        Supervisor *sv = sub->session->sv;
        _cleanup_(error_list_done) ErrorList degraded = {0};
        ResourcesSpec spec = {
                .state_fd = sv->state_fd,
                .run_fd = run->run_fd,
                .run = run->info->id,
                .plan = sub->plan,
                .source_fd = sub->source_fd,
                .cgroup = &sv->cgroup,
                .degraded = &degraded,
                .layout = sv->layout,
        };
        Resources res;
        int r = resources_acquire(&spec, &res, reterr);

        if (r == 0)
                run->layers = res.layers;
        for (size_t i = 0; i < degraded.n; i++)
                live_run_degraded(run, TAKE_PTR(degraded.items[i]));
        if (r == 0)
                r = submit_spawn(sub, run, &res, reterr);
        if (r == 0)
                r = disk_watch(run, reterr);
        return r;
}

static void submit_take_back(LiveRun *run) {
        Supervisor *sv = run->sv;
        _cleanup_free_ char *id = strdup(run->info->id);

        (void)resources_release(sv->state_fd, run->run_fd, run->info->id, NULL);
        (void)index_remove(sv->index, run->info->id, NULL);
        live_run_free(run);
        if (id)
                (void)fd_remove_tree(sv->runs_fd, id, NULL);
}

int submit(Session *s,
           const Carrel__V1__SubmitRequest *q,
           Frame *frame,
           Run **ret_run,
           Error **reterr) {
        _cleanup_(submission_done)
                Submission sub = {.session = s, .request = q, .frame = frame, .source_fd = -EBADF};
        LiveRun *run = NULL;
        int r = submit_check(&sub, reterr);

        if (r == 0)
                r = submit_create(&sub, &run, reterr);
        if (r == 0)
                r = submit_start(&sub, run, reterr);
        if (r == 0) {
                *ret_run = message_copy(&run->info->base);
                if (!*ret_run)
                        r = error_set(reterr, ENOMEM, "cannot answer");
        }
        if (r < 0) {
                if (run)
                        submit_take_back(run);
                return r;
        }
        run->client = q->attach ? s : NULL;
        run->terminal = q->attach && q->terminal;
        return 0;
}
