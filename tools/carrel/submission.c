/*
 * What carrel run submits: from a task's file, or from a command line
 *
 * Everything that the caller's directory and rights decide is settled here: relative paths, policy
 * files, the values of grants given on the command line.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/place.h"
#include "carrel/run.h"
#include "policy/compile.h"
#include "policy/policy.h"
#include "proto/text/text.h"

#define SUBMISSION_MAX_GRANT (64 * KIB)
#define SUBMISSION_MAX_NAME  64

void submission_done(Submission *s) {
        for (size_t i = 0; i < s->n_grants; i++) {
                explicit_bzero(s->grants[i]->value.data, s->grants[i]->value.len);
                message_free(s->grants[i]);
        }
        free(s->grants);
        message_free(s->policy);
        message_free(s->task);
        text_places_free(s->places);
        *s = (Submission){};
}

/* A field at fault, of a task that came from a file, has a place in it. */
static void submission_locate(const Submission *s, Error *e) {
        if (s->places && e && e->field)
                text_locate(s->places, e);
}

int submission_send(const Submission *s,
                    Client *c,
                    const int *fds,
                    size_t n_fds,
                    const WindowSize *terminal,
                    Run **ret_run,
                    Error **reterr) {
        Carrel__V1__SubmitRequest submit = CARREL__V1__SUBMIT_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        WindowSize size = CARREL__V1__WINDOW_SIZE__INIT;
        _cleanup_reply_ Reply reply = {};
        _cleanup_error_ Error *error = NULL;
        int r;

        if (terminal) {
                size = *terminal;
                submit.terminal = &size;
        }
        submit.task = s->task;
        submit.policy = s->policy;
        submit.grants = s->grants;
        submit.n_grants = s->n_grants;
        submit.attach = n_fds > 0;
        request.body_case = CARREL__V1__REQUEST__BODY_SUBMIT;
        request.submit = &submit;
        r = client_call(c, &request, fds, n_fds, &reply, &error);
        if (r < 0) {
                submission_locate(s, error);
                error_move(reterr, &error);
                return r;
        }
        if (reply.response->body_case != CARREL__V1__RESPONSE__BODY_SUBMIT ||
            !reply.response->submit->run)
                return error_refuse(reterr, EPROTO, NULL,
                                    "the supervisor did not say which run it started");
        *ret_run = TAKE_PTR(reply.response->submit->run);
        return 0;
}

static int submission_no_memory(Error **reterr) {
        return error_set(reterr, ENOMEM, "cannot prepare the task");
}

/* @path relative to @base, which may be NULL: the current directory. */
static int submission_resolve(const char *base, const char *path, char **ret_path, Error **reterr) {
        _cleanup_free_ char *joined = NULL;
        char *real;

        if (*path != '/' && base && asprintf(&joined, "%s/%s", base, path) < 0) {
                joined = NULL;
                return submission_no_memory(reterr);
        }
        real = realpath(joined ?: path, NULL);
        if (!real)
                return error_set(reterr, errno, "cannot find '%s'", path);
        *ret_path = real;
        return 0;
}

/* Replace a path field by its absolute form. */
static int submission_resolve_field(const char *base, char **field, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = submission_resolve(base, *field, &path, reterr);
        if (r < 0)
                return r;
        return message_set_string(field, path) < 0 ? submission_no_memory(reterr) : 0;
}

static int submission_set(char **field, const char *value, Error **reterr) {
        if (!value)
                return 0;
        return message_set_string(field, value) < 0 ? submission_no_memory(reterr) : 0;
}

static bool submission_policy_is_file(const char *name) {
        static const char *const ends[] = {".yaml", ".yml", ".json"};
        size_t n = strlen(name);

        if (strchr(name, '/'))
                return true;
        for (size_t i = 0; i < ELEMENTSOF(ends); i++)
                if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
                        return true;
        return false;
}

/* A profile's name is the supervisor's to resolve; a file is the caller's. */
static int submission_load_policy(Submission *s, const char *base, Error **reterr) {
        _cleanup_free_ char *shipped = place_find("policy/profiles", CARREL_POLICY_DIR);
        const char *own = secure_getenv("CARREL_POLICY_DIR");
        const char *const dirs[] = {own ?: shipped, own ? shipped : NULL, NULL};
        int r;

        if (!submission_policy_is_file(s->task->policy))
                return 0;
        r = policy_load(dirs, base ?: ".", s->task->policy, &s->policy, reterr);
        if (r < 0)
                return r;
        r = policy_check(s->policy, reterr);
        return r < 0 ? error_wrap(reterr, r, "policy '%s'", s->task->policy) : 0;
}

static int submission_ensure(void *field, const MessageDescriptor *d, Error **reterr) {
        void **m = field;

        if (!*m)
                *m = message_new(d);
        return *m ? 0 : submission_no_memory(reterr);
}

/* "NAME=REST". Return: length of NAME, -EINVAL. */
static ssize_t submission_split(const char *option, const char *text, Error **reterr) {
        const char *equals = strchr(text, '=');

        if (!equals || equals == text)
                return error_refuse(reterr, EINVAL, NULL, "'%s %.*s': the form is NAME=%s", option,
                                    equals ? 0 : (int)MIN_OF(strlen(text), (size_t)64), text,
                                    strcmp(option, "--env") == 0 ? "VALUE" : "FILE");
        return equals - text;
}

static int submission_add_environment(Task *task, const char *text, Error **reterr) {
        Carrel__V1__Harness__EnvironmentEntry *e;
        ssize_t n;

        n = submission_split("--env", text, reterr);
        if (n < 0)
                return (int)n;
        e = message_new(&carrel__v1__harness__environment_entry__descriptor);
        if (!e)
                return submission_no_memory(reterr);
        e->key = strndup(text, (size_t)n);
        e->value = strdup(text + n + 1);
        if (e->key && e->value &&
            message_append(&task->harness->environment, &task->harness->n_environment, e) >= 0)
                return 0;
        message_free(e);
        return submission_no_memory(reterr);
}

static int submission_declare_grant(Task *task, const char *name, Error **reterr) {
        Grant *g;

        for (size_t i = 0; i < task->n_grants; i++)
                if (strcmp(task->grants[i]->name, name) == 0)
                        return submission_set(&task->grants[i]->file, "",
                                              reterr); /* its value comes along */
        g = message_new(&carrel__v1__grant__descriptor);
        if (!g)
                return submission_no_memory(reterr);
        if (message_set_string(&g->name, name) >= 0 &&
            message_append(&task->grants, &task->n_grants, g) >= 0)
                return 0;
        message_free(g);
        return submission_no_memory(reterr);
}

static int submission_add_grant(Submission *s, const char *text, Error **reterr) {
        _cleanup_free_ char *name = NULL, *data = NULL;
        GrantValue *g;
        size_t size;
        ssize_t n;
        int r;

        n = submission_split("--grant", text, reterr);
        if (n < 0)
                return (int)n;
        name = strndup(text, (size_t)n);
        if (!name)
                return submission_no_memory(reterr);
        r = submission_declare_grant(s->task, name, reterr);
        if (r < 0)
                return r;
        r = file_read_at(AT_FDCWD, text + n + 1, SUBMISSION_MAX_GRANT, &data, &size, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot read grant '%s'", name);

        g = message_new(&carrel__v1__grant_value__descriptor);
        if (!g)
                return submission_no_memory(reterr);
        g->value.data = (uint8_t *)TAKE_PTR(data);
        g->value.len = size;
        if (message_set_string(&g->name, name) >= 0 &&
            message_append(&s->grants, &s->n_grants, g) >= 0)
                return 0;
        message_free(g);
        return submission_no_memory(reterr);
}

static int submission_add_approval(Task *task, const char *pattern, Error **reterr) {
        char *copy = strdup(pattern);

        if (copy && message_append(&task->approve, &task->n_approve, copy) >= 0)
                return 0;
        free(copy);
        return submission_no_memory(reterr);
}

/* The options that both kinds of run have. */
static int submission_override(Submission *s, const RunValues *v, Error **reterr) {
        Task *task = s->task;
        int r;

        r = submission_ensure(&task->harness, &carrel__v1__harness__descriptor, reterr);
        if (r >= 0)
                r = submission_set(&task->name, v->name, reterr);
        if (r >= 0)
                r = submission_set(&task->owner, v->owner, reterr);
        if (r >= 0)
                r = submission_set(&task->image, v->image, reterr);
        if (v->timeout_us)
                task->timeout_us = v->timeout_us;
        for (size_t i = 0; r >= 0 && i < v->environment.n; i++)
                r = submission_add_environment(task, v->environment.items[i], reterr);
        for (size_t i = 0; r >= 0 && i < v->grants.n; i++)
                r = submission_add_grant(s, v->grants.items[i], reterr);
        for (size_t i = 0; r >= 0 && i < v->approve.n; i++)
                r = submission_add_approval(task, v->approve.items[i], reterr);
        if (r < 0 || !v->source)
                return r;
        r = submission_ensure(&task->source, &carrel__v1__source__descriptor, reterr);
        if (r >= 0)
                r = submission_set(&task->source->directory, v->source, reterr);
        return r < 0 ? r : submission_resolve_field(NULL, &task->source->directory, reterr);
}

static int submission_check_directory(const Task *task, Error **reterr) {
        const char *path = task->source ? task->source->directory : "";
        struct stat st;

        if (!*path)
                return 0;
        if (stat(path, &st) < 0)
                return error_set(reterr, errno, "cannot use source '%s'", path);
        if (!S_ISDIR(st.st_mode))
                return error_set(reterr, ENOTDIR, "cannot use source '%s'", path);
        return 0;
}

/* Paths of the file, relative to where it stands; each failure names its field. */
static int submission_resolve_paths(Task *task, const char *base, Error **reterr) {
        int r;

        if (task->source && *task->source->directory) {
                r = submission_resolve_field(base, &task->source->directory, reterr);
                if (r >= 0)
                        r = submission_check_directory(task, reterr);
                if (r < 0)
                        return error_field(reterr, r, "source.directory");
        }
        for (size_t i = 0; i < task->n_grants; i++) {
                if (!*task->grants[i]->file)
                        continue;
                r = submission_resolve_field(base, &task->grants[i]->file, reterr);
                if (r < 0)
                        return error_field(reterr, r, "grants[%zu].file", i);
        }
        return 0;
}

static int
submission_prepare_file(Submission *s, const char *base, const RunValues *v, Error **reterr) {
        int r;

        r = submission_override(s, v, reterr);
        if (r < 0)
                return r;
        r = submission_resolve_paths(s->task, base, reterr);
        if (r < 0)
                return r;
        if (v->policy) {
                r = submission_set(&s->task->policy, v->policy, reterr);
                if (r >= 0)
                        r = submission_load_policy(s, NULL, reterr);
                return r < 0 ? r : task_check(s->task, reterr);
        }
        r = submission_load_policy(s, base, reterr);
        return r < 0 ? r : task_check(s->task, reterr);
}

static char *submission_directory_of(const char *path) {
        const char *slash = strrchr(path, '/');

        if (!slash)
                return strdup(".");
        return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

int submission_from_file(const char *path,
                         const RunValues *v,
                         Submission *ret_submission,
                         Error **reterr) {
        _cleanup_free_ char *base = submission_directory_of(path);
        _cleanup_(submission_done) Submission s = {};
        _cleanup_error_ Error *e = NULL;
        void *task;
        int r;

        if (!base)
                return submission_no_memory(reterr);
        r = text_parse_file(AT_FDCWD, path, &carrel__v1__task__descriptor, &task, &s.places,
                            reterr);
        if (r < 0)
                return r;
        s.task = task;
        r = submission_prepare_file(&s, base, v, &e);
        if (r < 0) {
                submission_locate(&s, e);
                error_move(reterr, &e);
                return r;
        }
        *ret_submission = s;
        s = (Submission){};
        return 0;
}

/* Who answers for a command: whoever typed it. */
static const char *submission_owner(void) {
        const char *sudo = getenv("SUDO_USER");
        const struct passwd *p;

        if (geteuid() == 0 && sudo && *sudo)
                return sudo;
        if (getuid() == 0)
                return "root"; /* the same in every user database: spares loading one */
        p = getpwuid(getuid());
        return p ? p->pw_name : "unknown";
}

/* A command's file name, within the letters that a task's name may have. */
static void submission_name(const char *command, char ret_name[static SUBMISSION_MAX_NAME + 1]) {
        const char *slash = strrchr(command, '/');
        size_t n = 0;

        for (const char *p = slash ? slash + 1 : command; *p && n < SUBMISSION_MAX_NAME; p++) {
                int c = tolower((unsigned char)*p);

                ret_name[n++] = (char)(isascii(c) && (isalnum(c) || strchr("._-", c)) ? c : '-');
        }
        if (n == 0 || !isalnum((unsigned char)ret_name[0])) {
                memcpy(ret_name, "command", sizeof "command");
                return;
        }
        ret_name[n] = '\0';
}

static int submission_set_command(Task *task, char *const *command, size_t n, Error **reterr) {
        for (size_t i = 0; i < n; i++) {
                char *copy = strdup(command[i]);

                if (!copy ||
                    message_append(&task->harness->command, &task->harness->n_command, copy) < 0) {
                        free(copy);
                        return submission_no_memory(reterr);
                }
        }
        task->harness->prompt_delivery = CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_NONE;
        task->attempts = 1;
        return 0;
}

static int submission_set_terminal_type(Task *task, Error **reterr) {
        _cleanup_free_ char *entry = NULL;
        const char *term = getenv("TERM");

        if (!term || !*term)
                return 0;
        if (asprintf(&entry, "TERM=%s", term) < 0) {
                entry = NULL;
                return submission_no_memory(reterr);
        }
        return submission_add_environment(task, entry, reterr);
}

int submission_from_command(char *const *command,
                            size_t n,
                            const RunValues *v,
                            Submission *ret_submission,
                            Error **reterr) {
        _cleanup_(submission_done) Submission s = {};
        char name[SUBMISSION_MAX_NAME + 1];
        RunValues filled = *v;
        int r;

        submission_name(command[0], name);
        filled.name = v->name ?: name;
        filled.owner = v->owner ?: submission_owner();
        filled.source = v->source ?: ".";
        s.task = message_new(&carrel__v1__task__descriptor);
        if (!s.task)
                return submission_no_memory(reterr);
        r = submission_override(&s, &filled, reterr);
        if (r >= 0)
                r = submission_check_directory(s.task, reterr);
        if (r >= 0)
                r = submission_set_command(s.task, command, n, reterr);
        if (r >= 0 && !v->no_tty && !v->detach && isatty(STDIN_FILENO) == 1 &&
            isatty(STDOUT_FILENO) == 1)
                r = submission_set_terminal_type(s.task, reterr);
        if (r >= 0)
                r = submission_set(&s.task->policy, v->policy, reterr);
        if (r >= 0)
                r = submission_load_policy(&s, NULL, reterr);
        if (r < 0)
                return r;
        *ret_submission = s;
        s = (Submission){};
        return 0;
}
