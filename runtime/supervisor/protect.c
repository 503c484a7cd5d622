/*
 * A run that changed what its policy protects does not end green
 *
 * Model:  carrel-patch walks the changes anyway, and reports those that need an approval and have
 * none (workspace/patch/report.h). What it could not tell counts as one: a green run stays green
 * only where a whole report says that nothing of the kind happened.
 * Trust:  the report's form is carrel-patch's, written before it reads a file; its paths are an
 * agent's.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "supervisor/supervisor.h"
#include "workspace/patch/report.h"

#define PROTECT_MAX_REPORT (REPORT_MAX_PATHS * 4096 + 64)
#define PROTECT_NAMED      3 /* paths in the outcome's text; the event has more */
#define PROTECT_FIELD      "filesystem.protect"

bool protect_applies(const LiveRun *r) {
        return r->plan && *r->plan->source && r->plan->n_protect > 0;
}

int protect_open_report(Error **reterr) {
        int fd = memfd_create("carrel-report", MFD_CLOEXEC);

        return fd < 0 ? error_set(reterr, errno, "cannot make room for the report") : fd;
}

char **protect_arguments(const LiveRun *r) {
        static char program[] = "carrel-patch", protect[] = "--protect", approve[] = "--approve";
        size_t n = r->plan ? r->plan->n_protect + r->plan->n_approve : 0;
        char **argv = calloc(2 + 2 * n, sizeof *argv), **at = argv;

        if (!argv)
                return NULL;
        *at++ = program;
        for (size_t i = 0; n > 0 && i < r->plan->n_protect; i++) {
                *at++ = protect;
                *at++ = r->plan->protect[i];
        }
        for (size_t i = 0; n > 0 && i < r->plan->n_approve; i++) {
                *at++ = approve;
                *at++ = r->plan->approve[i];
        }
        return argv;
}

/* ---- the report ---------------------------------------------------------------------------------
 */

typedef struct ProtectReport {
        char *data;
        char *paths[REPORT_MAX_PATHS];
        size_t n, total;
} ProtectReport;

static void protect_report_done(ProtectReport *p) {
        free(p->data);
}

/* The next text that ends with a NUL, or NULL. */
static char *protect_next(char **at, const char *end) {
        char *text = *at, *nul = text < end ? memchr(text, 0, (size_t)(end - text)) : NULL;

        if (nul)
                *at = nul + 1;
        return nul ? text : NULL;
}

/* Return: 0; -EBADMSG where it is none, or not whole; -errno. */
static int protect_read_report(int fd, ProtectReport *ret) {
        char *at, *end, *text, *digits_end = NULL;
        size_t size;
        int r;

        if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return -EBADMSG;
        r = fd_read_file(fd, PROTECT_MAX_REPORT, &ret->data, &size);
        if (r < 0)
                return r;
        at = ret->data;
        end = ret->data + size;
        text = protect_next(&at, end);
        ret->total = text ? strtoull(text, &digits_end, 10) : 0;
        if (!text || digits_end == text || *digits_end)
                return -EBADMSG;
        while (ret->n < REPORT_MAX_PATHS && (text = protect_next(&at, end)))
                ret->paths[ret->n++] = text;
        return at == end && ret->n == MIN_OF(ret->total, REPORT_MAX_PATHS) ? 0 : -EBADMSG;
}

/* ---- what follows from it -----------------------------------------------------------------------
 */

/* A copy: an agent's paths become text that any peer takes. */
static Event *protect_event(ProtectReport *p) {
        Carrel__V1__ProtectedChanged changed = CARREL__V1__PROTECTED_CHANGED__INIT;
        Event event = CARREL__V1__EVENT__INIT, *copy;

        changed.paths = p->paths;
        changed.n_paths = p->n;
        changed.more = p->total - p->n;
        event.body_case = CARREL__V1__EVENT__BODY_PROTECTED_CHANGED;
        event.protected_changed = &changed;
        copy = message_copy(&event.base);
        if (copy)
                message_make_text_valid(&copy->base);
        return copy;
}

static void protect_fail(LiveRun *r, Error *error) {
        if (r->outcome->state == CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED) {
                r->outcome->state = CARREL__V1__RUN_STATE__RUN_STATE_FAILED;
                r->outcome->reason = CARREL__V1__REASON__REASON_PROTECTED;
                message_free(r->outcome->error);
                r->outcome->error = error_to_message(error);
        }
        error_free(error);
}

static Error *protect_error(const Carrel__V1__ProtectedChanged *changed) {
        uint64_t total = changed->n_paths + changed->more;
        char names[PROTECT_NAMED * 128] = "";
        size_t n = 0, size = 0;
        Error *error = NULL;

        for (; n < MIN_OF(changed->n_paths, (size_t)PROTECT_NAMED); n++)
                size += (size_t)snprintf(names + size, sizeof names - size, "%s'%.100s%s'",
                                         n ? ", " : "", changed->paths[n],
                                         strlen(changed->paths[n]) > 100 ? "..." : "");
        if (total > n)
                snprintf(names + size, sizeof names - size, " and %lu more", total - n);
        error_refuse(&error, EPERM,
                     "to let a run do that, add 'approve: [PATTERN]' to the task, or --approve "
                     "PATTERN to "
                     "'carrel run'; 'carrel apply' leaves it out, unless it is given --approve",
                     "the run changed what '" PROTECT_FIELD "' of its policy protects: %s", names);
        error_field(&error, -EPERM, PROTECT_FIELD);
        return error;
}

static Error *protect_unknown(void) {
        Error *error = NULL;

        error_refuse(&error, EIO,
                     "see why in 'carrel events'; let the run leave less behind, or approve all of "
                     "it: 'carrel run --approve \"**\"'",
                     "it cannot be told whether the run changed what '" PROTECT_FIELD
                     "' of its policy protects");
        error_field(&error, -EIO, PROTECT_FIELD);
        return error;
}

void protect_judge(LiveRun *r) {
        _cleanup_(protect_report_done) ProtectReport report = {};
        _cleanup_message_ Event *event = NULL;

        if (!protect_applies(r))
                return;
        if (protect_read_report(r->report_fd, &report) < 0) {
                protect_fail(r, protect_unknown());
                return;
        }
        if (report.total == 0)
                return;
        event = protect_event(&report);
        if (!event) {
                protect_fail(r, protect_unknown());
                return;
        }
        live_run_append(r, event);
        protect_fail(r, protect_error(event->protected_changed));
}
