/*
 * The attempt loop: harness, checks, files, and either feedback and again, or the end
 *
 *      begin -> harness -> check 1..n -> collect files -> green?  -> wait for feedback -> end
 *                 ^                                      red?   -> feedback ----------+
 *                 +-------------------------------------------------------------------+
 *
 * A harness's exit status alone decides nothing where there are checks: programs that could not do
 * their work exit 0 too. Without checks it is all there is.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "shim/junit.h"
#include "shim/shim.h"

static void attempt_start(Shim *s);
static void attempt_next_check(Shim *s);
static void attempt_next_file(Shim *s);

/* ---- the end ------------------------------------------------------------------------------------
 */

/* Nothing runs any more, or its grace is over. */
static void attempt_finish(Shim *s) {
        Carrel__V1__Finished finished = CARREL__V1__FINISHED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        if (s->phase == PHASE_ENDED)
                return;
        s->phase = PHASE_ENDED;
        process_drop(s);
        output_flush(s->output);
        grants_revoke(s, true);
        denials_flush(s->denials);
        shim_check_limits(s);
        s->outcome->attempts = s->attempt;
        s->outcome->exit_status = s->exit_status;
        s->outcome->signal = s->signal;
        message_free(s->outcome->usage);
        s->outcome->usage = message_new(&carrel__v1__usage__descriptor);
        if (s->outcome->usage)
                shim_usage(s, s->outcome->usage);
        finished.outcome = s->outcome;
        event.body_case = CARREL__V1__EVENT__BODY_FINISHED;
        event.finished = &finished;
        shim_emit(s, &event);
        (void)sd_event_exit(s->event, 0);
}

static int attempt_grace_over(sd_event_source *source, uint64_t us, void *data) {
        attempt_finish(data);
        return 0;
}

void attempt_end(Shim *s, RunState state, Carrel__V1__Reason reason, Error *error) {
        if (!s->outcome) {
                s->outcome = message_new(&carrel__v1__outcome__descriptor);
                if (!s->outcome)
                        abort(); /* the supervisor sees a lost shim, which is what this is */
                s->outcome->state = state;
                s->outcome->reason = reason;
                s->outcome->error = error_to_message(error);
        }
        error_free(error);
        s->wait_timer = sd_event_source_disable_unref(s->wait_timer);
        if (!s->process || s->phase == PHASE_ENDING) {
                attempt_finish(s);
                return;
        }
        s->phase = PHASE_ENDING;
        process_stop(s);
        /* A second past the kill: whatever is still there then goes with the workspace. */
        if (sd_event_add_time_relative(s->event, &s->grace_timer, CLOCK_BOOTTIME,
                                       s->plan->limits->stop_grace_us + USEC_PER_SEC, 0,
                                       attempt_grace_over, s) < 0)
                attempt_finish(s);
}

/* ---- judging ------------------------------------------------------------------------------------
 */

static void attempt_emit_finished(Shim *s, bool green, char *summary) {
        Carrel__V1__AttemptFinished finished = CARREL__V1__ATTEMPT_FINISHED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        finished.attempt = s->attempt;
        finished.green = green;
        finished.summary = summary;
        event.body_case = CARREL__V1__EVENT__BODY_ATTEMPT_FINISHED;
        event.attempt_finished = &finished;
        shim_emit(s, &event);
}

static char *attempt_describe_harness(const Shim *s) {
        char *text = NULL;
        int n;

        switch (s->harness_reason) {
        case CARREL__V1__REASON__REASON_TIMEOUT:
                n = asprintf(&text, "the harness did not end within its time limit");
                break;
        case CARREL__V1__REASON__REASON_OUT_OF_MEMORY:
                n = asprintf(&text,
                             "the harness was killed: the workspace's memory limit of %lu MiB was "
                             "reached",
                             s->plan->cgroup->memory_bytes / MIB);
                break;
        default:
                n = s->signal ? asprintf(&text, "the harness was ended by signal %u (%s)",
                                         s->signal, strsignal((int)s->signal))
                              : asprintf(&text, "the harness ended with status %u", s->exit_status);
        }
        return n < 0 ? NULL : text;
}

static void attempt_end_red(Shim *s) {
        bool harness = s->harness_reason != CARREL__V1__REASON__REASON_DONE &&
                       s->harness_reason != CARREL__V1__REASON__REASON_UNSPECIFIED;
        Carrel__V1__Reason reason =
                harness ? s->harness_reason : CARREL__V1__REASON__REASON_CHECKS_FAILED;
        _cleanup_free_ char *text = attempt_describe_harness(s);
        RunState state = reason == CARREL__V1__REASON__REASON_TIMEOUT
                                 ? CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT
                                 : CARREL__V1__RUN_STATE__RUN_STATE_FAILED;
        Error *error = NULL;

        if (s->plan->n_checks == 0)
                error_refuse(&error, ECANCELED, "see what it printed: carrel logs", "%s",
                             text ?: "the harness failed");
        else
                error_refuse(&error, ECANCELED, "see the last check's output: carrel logs",
                             "a check was still red after attempt %u%s%s", s->attempt,
                             harness && text ? "; " : "", harness && text ? text : "");
        attempt_end(s, state, reason, error);
}

static int attempt_wait_over(sd_event_source *source, uint64_t us, void *data) {
        attempt_end(data, CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED,
                    CARREL__V1__REASON__REASON_DONE, NULL);
        return 0;
}

static void attempt_green(Shim *s) {
        if (feedback_queue_pending(s->feedback) > 0) { /* it came while the attempt ran */
                attempt_start(s);
                return;
        }
        if (s->accepted || s->plan->feedback_wait_us == 0 ||
            sd_event_add_time_relative(s->event, &s->wait_timer, CLOCK_BOOTTIME,
                                       s->plan->feedback_wait_us, 0, attempt_wait_over, s) < 0) {
                attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED,
                            CARREL__V1__REASON__REASON_DONE, NULL);
                return;
        }
        s->phase = PHASE_WAITING;
        shim_set_state(s, CARREL__V1__RUN_STATE__RUN_STATE_WAITING);
}

static void attempt_add_feedback(Shim *s, const char *what, const char *source, const char *text) {
        Carrel__V1__FeedbackReceived received = CARREL__V1__FEEDBACK_RECEIVED__INIT;
        Feedback item = CARREL__V1__FEEDBACK__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        _cleanup_free_ char *id = NULL, *masked = mask_string(s->mask, text),
                            *from = strdup(source);

        if (!masked || !from || asprintf(&id, "attempt-%u-%s", s->attempt, what) < 0)
                return;
        item.id = id;
        item.kind = CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_CHECK;
        item.source = from;
        item.text = masked;
        item.attempt = s->attempt;
        if (feedback_queue_add(s->feedback, &item, NULL) <= 0)
                return;
        received.feedback = &item;
        event.body_case = CARREL__V1__EVENT__BODY_FEEDBACK_RECEIVED;
        event.feedback_received = &received;
        shim_emit(s, &event);
}

/* Everything of the attempt is known. */
static void attempt_judge(Shim *s) {
        bool harness_ok = s->harness_reason == CARREL__V1__REASON__REASON_DONE;
        bool green = s->plan->n_checks > 0 ? !s->check_red : harness_ok;
        _cleanup_free_ char *described = attempt_describe_harness(s);
        char green_text[] = "", red_text[] = "a check failed";

        attempt_emit_finished(s, green,
                              green                                 ? green_text
                              : s->plan->n_checks > 0 || !described ? red_text
                                                                    : described);
        if (s->attempts_left > 0)
                s->attempts_left--;
        if (green) {
                attempt_green(s);
                return;
        }
        if (s->attempts_left == 0) {
                attempt_end_red(s);
                return;
        }
        if (!harness_ok && described)
                attempt_add_feedback(s, "harness", "carrel", described);
        attempt_start(s);
}

/* ---- files --------------------------------------------------------------------------------------
 */

static int attempt_open(Shim *s, char *path, int (*opened)(Shim *s, int fd, const Error *error)) {
        Carrel__V1__InitOpen body = CARREL__V1__INIT_OPEN__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;

        s->opened = opened;
        body.request = ++s->open_request;
        body.path = path;
        request.body_case = CARREL__V1__INIT_REQUEST__BODY_OPEN;
        request.open = &body;
        shim_init_send(s, &request, NULL, 0);
        return 0;
}

static int attempt_file_opened(Shim *s, int fd, const Error *error) {
        const ArtifactRule *rule = s->plan->artifacts[s->collect];
        _cleanup_error_ Error *failed = NULL;

        if (error)
                shim_degraded(s, error);
        else if (shim_publish(s, fd, rule->name, "rule", NULL, &failed) < 0)
                shim_degraded(s, failed);
        s->collect++;
        attempt_next_file(s);
        return 0;
}

static void attempt_next_file(Shim *s) {
        if (s->collect >= s->plan->n_artifacts) {
                attempt_judge(s);
                return;
        }
        s->phase = PHASE_COLLECT;
        attempt_open(s, s->plan->artifacts[s->collect]->path, attempt_file_opened);
}

/* ---- checks -------------------------------------------------------------------------------------
 */

static void attempt_check_feedback(Shim *s, const char *summary, const JunitReport *report) {
        const Carrel__V1__PlanCheck *check = s->plan->checks[s->check];
        _cleanup_free_ char *text = NULL;
        size_t size, tail = s->process->tail_size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return;
        fprintf(f, "check '%s' failed: %s\n", check->name, summary);
        if (report->text)
                fprintf(f, "%s", report->text);
        if (tail > 0) {
                fprintf(f, "its output%s:\n",
                        tail == sizeof s->process->tail ? " (the end of it)" : "");
                fwrite(s->process->tail, 1, tail, f);
        }
        /* A NUL in the output would end the text here: that is all right. */
        if (fclose(f) == 0)
                attempt_add_feedback(s, check->name, check->name, text);
}

static char *
attempt_check_summary(const Shim *s, const JunitReport *report, const Error *junit_error) {
        const Process *p = s->process;
        char *text = NULL;
        int n;

        if (p->error)
                n = asprintf(&text, "%s", p->error->what);
        else if (p->timed_out)
                n = asprintf(&text, "it did not end within its time limit");
        else if (p->out_of_memory)
                n = asprintf(&text,
                             "it was killed: the workspace's memory limit of %lu MiB "
                             "('resources.memory') was reached",
                             s->plan->cgroup->memory_bytes / MIB);
        else if (report->failures > 0)
                n = asprintf(&text, "%u of %u tests failed", report->failures, report->tests);
        else if (WIFSIGNALED(p->wait_status))
                n = asprintf(&text, "ended by signal %d (%s)", WTERMSIG(p->wait_status),
                             strsignal(WTERMSIG(p->wait_status)));
        else if (WEXITSTATUS(p->wait_status) != 0)
                n = asprintf(&text, "ended with status %d", WEXITSTATUS(p->wait_status));
        else if (junit_error)
                n = asprintf(&text, "%s", junit_error->what);
        else if (report->tests > 0)
                n = asprintf(&text, "%u tests passed", report->tests);
        else
                n = asprintf(&text, "passed");
        return n < 0 ? NULL : text;
}

/* The check's process and its report are in; @junit_error: the report was asked for and is no good.
 */
static void attempt_check_done(Shim *s, const JunitReport *report, const Error *junit_error) {
        Carrel__V1__CheckFinished finished = CARREL__V1__CHECK_FINISHED__INIT;
        Event event = CARREL__V1__EVENT__INIT;
        const Process *p = s->process;
        _cleanup_free_ char *summary = attempt_check_summary(s, report, junit_error);
        char unknown[] = "";

        finished.check = s->plan->checks[s->check]->name;
        finished.passed = !p->error && !p->timed_out && p->wait_status == 0 &&
                          report->failures == 0 && !junit_error;
        finished.tests = report->tests;
        finished.failures = report->failures;
        finished.summary = summary ?: unknown;
        event.body_case = CARREL__V1__EVENT__BODY_CHECK_FINISHED;
        event.check_finished = &finished;
        shim_emit(s, &event);
        if (!finished.passed) {
                s->check_red = true;
                attempt_check_feedback(s, finished.summary, report);
        }
        process_drop(s);
        s->check++;
        attempt_next_check(s);
}

/*
 * A report from before the check is the harness's own, or an earlier attempt's: a check that did
 * not get as far as its report, or could not write it, would be judged by that one. Nobody inside
 * can set a file's ctime.
 */
static int attempt_junit_check_age(const Shim *s, int fd, Error **reterr) {
        const struct timespec *begun = &s->process->started_real;
        const char *path = s->plan->checks[s->check]->junit;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at '%s'", path);
        if (st.st_ctim.tv_sec > begun->tv_sec ||
            (st.st_ctim.tv_sec == begun->tv_sec && st.st_ctim.tv_nsec >= begun->tv_nsec))
                return 0;
        return error_refuse(reterr, ESTALE, "let the check write it each time",
                            "the JUnit report '%s' is older than the check", path);
}

static int attempt_junit_opened(Shim *s, int fd, const Error *error) {
        JunitReport report = {0};
        _cleanup_error_ Error *failed = NULL, *refused = NULL;
        _cleanup_free_ char *data = NULL, *name = NULL;
        size_t size = 0;
        int r;

        if (error) {
                attempt_check_done(s, &report, error);
                return 0;
        }
        if (attempt_junit_check_age(s, fd, &failed) < 0) {
                attempt_check_done(s, &report, failed);
                return 0;
        }
        r = fd_read_file(fd, JUNIT_MAX_SIZE, &data, &size);
        if (r < 0)
                error_set(&failed, -r, "cannot read the JUnit report");
        else
                (void)junit_parse(data, size, &report, &failed);
        if (asprintf(&name, "%s.junit.xml", s->plan->checks[s->check]->name) >= 0 &&
            shim_publish(s, fd, name, "check", NULL, &refused) < 0)
                shim_degraded(s, refused);
        attempt_check_done(s, &report, failed);
        junit_report_done(&report);
        return 0;
}

static void attempt_next_check(Shim *s) {
        Carrel__V1__PlanCheck *check;
        Error *error = NULL;

        if (s->check >= s->plan->n_checks) {
                s->collect = 0;
                attempt_next_file(s);
                return;
        }
        check = s->plan->checks[s->check];
        s->phase = PHASE_CHECK;
        shim_set_state(s, CARREL__V1__RUN_STATE__RUN_STATE_CHECKING);
        if (process_start(s, CARREL__V1__PROCESS_KIND__PROCESS_KIND_CHECK, check->name,
                          check->process, NULL, false, &error) < 0)
                attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                            CARREL__V1__REASON__REASON_INTERNAL, error);
}

/* ---- the harness --------------------------------------------------------------------------------
 */

static void attempt_harness_done(Shim *s, const Process *p) {
        grants_revoke(s, false);
        if (p->error) { /* it never ran: another attempt would not either, and there is nothing to
                           wait for */
                Error *error = error_new_copy(p->error->code, p->error->what, p->error->hint,
                                              "harness.command");

                process_drop(s);
                attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                            CARREL__V1__REASON__REASON_SETUP_FAILED, error);
                return;
        }
        process_drop(s);
        s->check = 0;
        s->check_red = false;
        attempt_next_check(s);
}

void attempt_process_done(Shim *s, const Process *p) {
        if (s->phase == PHASE_ENDING) {
                attempt_finish(s);
        } else if (s->phase == PHASE_HARNESS) {
                attempt_harness_done(s, p);
        } else if (s->phase == PHASE_CHECK) {
                JunitReport none = {0};
                char *junit = s->plan->checks[s->check]->junit;

                if (*junit && !p->error && !p->timed_out)
                        attempt_open(s, junit, attempt_junit_opened);
                else
                        attempt_check_done(s, &none, NULL);
        }
}

static void attempt_emit_delivered(Shim *s) {
        size_t n, pending = feedback_queue_pending(s->feedback);
        Feedback **items = feedback_queue_items(s->feedback, &n);

        for (size_t i = n - pending; i < n; i++) {
                Carrel__V1__FeedbackDelivered delivered = CARREL__V1__FEEDBACK_DELIVERED__INIT;
                Event event = CARREL__V1__EVENT__INIT;

                delivered.id = items[i]->id;
                delivered.attempt = s->attempt;
                event.body_case = CARREL__V1__EVENT__BODY_FEEDBACK_DELIVERED;
                event.feedback_delivered = &delivered;
                shim_emit(s, &event);
        }
        feedback_queue_mark_delivered(s->feedback);
}

static void attempt_emit_started(Shim *s) {
        Carrel__V1__AttemptStarted started = CARREL__V1__ATTEMPT_STARTED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        started.attempt = s->attempt;
        started.feedback = (uint32_t)feedback_queue_pending(s->feedback);
        event.body_case = CARREL__V1__EVENT__BODY_ATTEMPT_STARTED;
        event.attempt_started = &started;
        shim_emit(s, &event);
}

/* The prompt goes to standard input, or becomes one more argument. */
static int attempt_start_harness(Shim *s, char *text, Error **reterr) {
        PlanProcess command = *s->plan->harness;
        _cleanup_free_ char **argv = NULL;
        bool argument =
                s->plan->prompt_delivery == CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_ARGUMENT;
        bool input =
                s->plan->prompt_delivery == CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_STDIN ||
                s->plan->prompt_delivery ==
                        CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_UNSPECIFIED;

        if (argument) {
                argv = calloc(command.n_argv + 2, sizeof *argv);
                if (!argv)
                        return error_set(reterr, ENOMEM, "cannot start the harness");
                memcpy(argv, command.argv, command.n_argv * sizeof *argv);
                argv[command.n_argv++] = text;
                command.argv = argv;
        }
        return process_start(s, CARREL__V1__PROCESS_KIND__PROCESS_KIND_HARNESS, NULL, &command,
                             input ? text : NULL, s->attach, reterr);
}

static void attempt_start(Shim *s) {
        _cleanup_free_ char *text = feedback_compose(s->feedback, s->plan->prompt);
        Error *error = NULL;

        s->attempt++;
        s->phase = PHASE_HARNESS;
        s->harness_reason = CARREL__V1__REASON__REASON_UNSPECIFIED;
        s->exit_status = s->signal = 0;
        shim_set_state(s, CARREL__V1__RUN_STATE__RUN_STATE_RUNNING);
        attempt_emit_started(s);
        attempt_emit_delivered(s);
        grants_provide(s);
        if (!text)
                error_set(&error, ENOMEM, "cannot start the harness");
        else if (attempt_start_harness(s, text, &error) == 0)
                return;
        attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_ERRORED,
                    CARREL__V1__REASON__REASON_INTERNAL, error);
}

void attempt_begin(Shim *s) {
        s->attempts_left = s->plan->attempts;
        attempt_start(s);
}

void attempt_feedback(Shim *s, const Feedback *f) {
        s->accepted = f->kind == CARREL__V1__FEEDBACK_KIND__FEEDBACK_KIND_ACCEPT;
        if (s->accepted) {
                if (s->phase == PHASE_WAITING)
                        attempt_end(s, CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED,
                                    CARREL__V1__REASON__REASON_DONE, NULL);
                return;
        }
        /* Words from outside open a new round: as many attempts as the first had. */
        s->attempts_left = s->plan->attempts;
        if (s->phase == PHASE_WAITING) {
                s->wait_timer = sd_event_source_disable_unref(s->wait_timer);
                attempt_start(s);
        }
}
