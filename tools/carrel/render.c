#include "carrel/render.h"

#include <inttypes.h>
#include <string.h>

#include "carrel/escape.h"
#include "proto/text/text.h"
#include "proto/text/units.h"

#define RENDER_ENUM(type, value) text_enum(&carrel__v1__##type##__descriptor, (int)(value))

void render_duration(FILE *to, uint64_t us) {
        char s[UNITS_TEXT_SIZE];

        /* A person reads no microseconds behind a second. */
        if (us >= USEC_PER_SEC)
                us -= us % (100 * USEC_PER_MSEC);
        else if (us >= USEC_PER_MSEC)
                us -= us % USEC_PER_MSEC;
        units_print_duration(us, s);
        fputs(s, to);
}

void render_size(FILE *to, uint64_t bytes) {
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
        double n = (double)bytes;
        size_t u = 0;

        for (; n >= 1024 && u + 1 < ELEMENTSOF(units); u++)
                n /= 1024;
        fprintf(to, u ? "%.1f %s" : "%.0f %s", n, units[u]);
}

/* Only the first line of a text; the journal has the rest. */
static void render_first_line(FILE *to, const char *text) {
        Escaper e = {.to = to, .plain = true};
        size_t n = strcspn(text, "\n");

        escaper_feed(&e, text, n);
        escaper_end(&e);
        if (text[n] && text[n + 1])
                fputs(" ...", to);
}

void render_outcome(FILE *to, const Outcome *o) {
        fputs(RENDER_ENUM(run_state, o->state), to);
        if (o->reason != CARREL__V1__REASON__REASON_UNSPECIFIED &&
            o->reason != CARREL__V1__REASON__REASON_DONE)
                fprintf(to, " (%s)", RENDER_ENUM(reason, o->reason));
        if (o->signal)
                fprintf(to, ", harness killed by signal %u (%s)", o->signal,
                        strsignal((int)o->signal));
        else if (o->exit_status)
                fprintf(to, ", harness exited with status %u", o->exit_status);
        if (o->error && *o->error->what) {
                fputs(": ", to);
                escape_word(to, o->error->what);
        }
}

static void render_submitted(FILE *to, const Event *e) {
        fputs("submitted as ", to);
        escape_word(to, e->submitted->run);
        fputs(" for ", to);
        escape_word(to, e->submitted->owner);
}

static void render_state_changed(FILE *to, const Event *e) {
        fprintf(to, "%s -> %s", RENDER_ENUM(run_state, e->state_changed->from),
                RENDER_ENUM(run_state, e->state_changed->to));
}

static void render_workspace_ready(FILE *to, const Event *e) {
        fputs("workspace ready in ", to);
        render_duration(to, e->workspace_ready->setup_us);
}

static void render_attempt_started(FILE *to, const Event *e) {
        fprintf(to, "attempt %u started", e->attempt_started->attempt);
        if (e->attempt_started->feedback)
                fprintf(to, " with %u item%s of feedback", e->attempt_started->feedback,
                        e->attempt_started->feedback == 1 ? "" : "s");
}

static void render_attempt_finished(FILE *to, const Event *e) {
        const Carrel__V1__AttemptFinished *a = e->attempt_finished;

        fprintf(to, "attempt %u %s", a->attempt, a->green ? "green" : "red");
        if (*a->summary) {
                fputs(": ", to);
                render_first_line(to, a->summary);
        }
}

static void render_process_started(FILE *to, const Event *e) {
        const Carrel__V1__ProcessStarted *p = e->process_started;

        fprintf(to, "%s", RENDER_ENUM(process_kind, p->kind));
        if (*p->check) {
                fputs(" '", to);
                escape_word(to, p->check);
                fputc('\'', to);
        }
        fprintf(to, " started (process %u)", p->process);
}

static void render_process_exited(FILE *to, const Event *e) {
        const Carrel__V1__ProcessExited *p = e->process_exited;

        fprintf(to, "process %u ", p->process);
        if (p->signal)
                fprintf(to, "killed by signal %u (%s)", p->signal, strsignal((int)p->signal));
        else
                fprintf(to, "exited with status %u", p->exit_status);
        if (p->reason > CARREL__V1__REASON__REASON_HARNESS_FAILED)
                fprintf(to, " (%s)", RENDER_ENUM(reason, p->reason));
        fputs(" after ", to);
        render_duration(to, p->duration_us);
}

static void render_check_finished(FILE *to, const Event *e) {
        const Carrel__V1__CheckFinished *c = e->check_finished;

        fputs("check '", to);
        escape_word(to, c->check);
        fprintf(to, "' %s", c->passed ? "passed" : "failed");
        if (*c->summary) {
                fputs(": ", to);
                render_first_line(to, c->summary);
        }
}

static void render_feedback_received(FILE *to, const Event *e) {
        const Feedback *f = e->feedback_received->feedback;

        if (!f) {
                fputs("feedback received", to);
                return;
        }
        fprintf(to, "feedback (%s)", RENDER_ENUM(feedback_kind, f->kind));
        if (*f->source) {
                fputs(" from ", to);
                escape_word(to, f->source);
        }
        if (*f->text) {
                fputs(": ", to);
                render_first_line(to, f->text);
        }
}

static void render_feedback_delivered(FILE *to, const Event *e) {
        fputs("feedback ", to);
        escape_word(to, e->feedback_delivered->id);
        fprintf(to, " delivered to attempt %u", e->feedback_delivered->attempt);
}

static void render_artifact_published(FILE *to, const Event *e) {
        fputs("artifact '", to);
        escape_word(to, e->artifact_published->name);
        fputs("', ", to);
        render_size(to, e->artifact_published->size_bytes);
}

static void render_output_written(FILE *to, const Event *e) {
        uint64_t bytes = 0;

        for (size_t i = 0; i < e->output_written->n_segments; i++)
                bytes += e->output_written->segments[i]->length;
        fputs("output, ", to);
        render_size(to, bytes);
}

static void render_grant_changed(FILE *to, const Event *e) {
        fputs("grant '", to);
        escape_word(to, e->grant_changed->name);
        fprintf(to, "' %s", RENDER_ENUM(grant_state, e->grant_changed->state));
}

/* What a limit of this name counts in bytes. */
static bool render_is_size(const char *limit) {
        static const char *const sizes[] = {"resources.memory", "filesystem.disk", "limits.log"};

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
                if (strcmp(limit, sizes[i]) == 0)
                        return true;
        return false;
}

static void render_limit_hit(FILE *to, const Event *e) {
        const Carrel__V1__LimitHit *l = e->limit_hit;

        fputs("limit ", to);
        escape_word(to, l->limit);
        fputs(" (", to);
        if (render_is_size(l->limit))
                render_size(to, l->value);
        else
                fprintf(to, "%" PRIu64, l->value);
        fputs(") hit", to);
        if (l->count > 1)
                fprintf(to, " %" PRIu64 " times", l->count);
        if (*l->consequence) {
                fputs(": ", to);
                escape_word(to, l->consequence);
        }
}

static void render_denied(FILE *to, const Event *e) {
        const Carrel__V1__Denied *d = e->denied;

        fputs("denied: ", to);
        escape_word(to, d->call);
        fputc('(', to);
        escape_word(to, d->arguments);
        fputc(')', to);
        if (d->count > 1)
                fprintf(to, " %" PRIu64 " times", d->count);
        if (d->lost > 0)
                fprintf(to, ", and %" PRIu64 " others", d->lost);
        fputs(": ", to);
        escape_word(to, d->rule);
        if (*d->hint) {
                fputs("; ", to);
                escape_word(to, d->hint);
        }
}

static void render_status_reported(FILE *to, const Event *e) {
        fputs("harness says: ", to);
        render_first_line(to, e->status_reported->text);
}

static void render_degraded(FILE *to, const Event *e) {
        fputs("degraded: ", to);
        escape_word(to, e->degraded->error ? e->degraded->error->what : "?");
}

static void render_adopted(FILE *to, const Event *e) {
        fprintf(to, "taken over by supervisor %u", e->adopted->supervisor_pid);
}

static void render_protected_changed(FILE *to, const Event *e) {
        const Carrel__V1__ProtectedChanged *p = e->protected_changed;

        fputs("changed what is protected: ", to);
        for (size_t i = 0; i < p->n_paths; i++) {
                fputs(i ? ", " : "", to);
                escape_word(to, p->paths[i]);
        }
        if (p->more > 0)
                fprintf(to, " and %" PRIu64 " more", p->more);
}

static void render_finished(FILE *to, const Event *e) {
        if (e->finished->outcome)
                render_outcome(to, e->finished->outcome);
        else
                fputs("finished", to);
}

static const struct {
        Carrel__V1__Event__BodyCase body;
        bool live;
        void (*render)(FILE *to, const Event *e);
} render_table[] = {
        {CARREL__V1__EVENT__BODY_SUBMITTED, false, render_submitted},
        {CARREL__V1__EVENT__BODY_STATE_CHANGED, false, render_state_changed},
        {CARREL__V1__EVENT__BODY_WORKSPACE_READY, true, render_workspace_ready},
        {CARREL__V1__EVENT__BODY_ATTEMPT_STARTED, true, render_attempt_started},
        {CARREL__V1__EVENT__BODY_ATTEMPT_FINISHED, true, render_attempt_finished},
        {CARREL__V1__EVENT__BODY_PROCESS_STARTED, false, render_process_started},
        {CARREL__V1__EVENT__BODY_PROCESS_EXITED, true, render_process_exited},
        {CARREL__V1__EVENT__BODY_CHECK_FINISHED, true, render_check_finished},
        {CARREL__V1__EVENT__BODY_FEEDBACK_RECEIVED, true, render_feedback_received},
        {CARREL__V1__EVENT__BODY_FEEDBACK_DELIVERED, false, render_feedback_delivered},
        {CARREL__V1__EVENT__BODY_ARTIFACT_PUBLISHED, true, render_artifact_published},
        {CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN, false, render_output_written},
        {CARREL__V1__EVENT__BODY_GRANT_CHANGED, true, render_grant_changed},
        {CARREL__V1__EVENT__BODY_LIMIT_HIT, true, render_limit_hit},
        {CARREL__V1__EVENT__BODY_DENIED, true, render_denied},
        {CARREL__V1__EVENT__BODY_STATUS_REPORTED, true, render_status_reported},
        {CARREL__V1__EVENT__BODY_DEGRADED, true, render_degraded},
        {CARREL__V1__EVENT__BODY_ADOPTED, true, render_adopted},
        {CARREL__V1__EVENT__BODY_PROTECTED_CHANGED, true, render_protected_changed},
        {CARREL__V1__EVENT__BODY_FINISHED, false, render_finished},
};

static void render_time(FILE *to, uint64_t time_us, uint64_t start_us) {
        uint64_t us = time_us > start_us ? time_us - start_us : 0;

        fprintf(to, "%+9.3fs  ", (double)us / (double)USEC_PER_SEC);
}

void render_event(FILE *to, const Event *e, uint64_t start_unix_us, bool live) {
        for (size_t i = 0; i < ELEMENTSOF(render_table); i++) {
                if (render_table[i].body != e->body_case)
                        continue;
                if (live && !render_table[i].live)
                        return;
                render_time(to, e->time_unix_us, start_unix_us);
                render_table[i].render(to, e);
                fputc('\n', to);
                return;
        }
        if (live)
                return;
        render_time(to, e->time_unix_us, start_unix_us);
        fputs("an event that this carrel does not know\n", to);
}
