/*
 * A run ends in time, whatever became of its shim
 *
 * Model:  the shim keeps the run's time limit and obeys a stop, with a grace for the harness. It
 * also takes descriptors from the harness, and a descriptor can hold whoever closes it: a socket
 * with SO_LINGER and unsent data does, for as long as it was told to (socket(7)), also where the
 * kernel drops what did not fit into a message. So the supervisor keeps the time as well, a little
 * longer, and kills a shim that has not ended by then; the workspace goes with it.
 * Trust:  nothing that comes from the shim moves the deadline.
 */
#include <errno.h>

#include "base/log.h"
#include "supervisor/supervisor.h"

/* Beside the harness's grace: for a shim on a busy machine. */
#define DEADLINE_SLACK_US (15 * USEC_PER_SEC)

static const struct {
        Carrel__V1__Reason reason;
        RunState state;
        const char *why;
} deadline_outcomes[] = {
        {CARREL__V1__REASON__REASON_TIMEOUT, CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT,
         "the run did not end within its time limit"},
        {CARREL__V1__REASON__REASON_DISK_FULL, CARREL__V1__RUN_STATE__RUN_STATE_FAILED,
         "the run used more than its disk limit"},
        {CARREL__V1__REASON__REASON_STOPPED, CARREL__V1__RUN_STATE__RUN_STATE_STOPPED,
         "the run was stopped"},
};

static uint64_t deadline_grace_us(const LiveRun *r) {
        return r->plan->limits->stop_grace_us + DEADLINE_SLACK_US;
}

static int deadline_passed(sd_event_source *source, uint64_t us, void *data) {
        LiveRun *r = data;

        log_line(LOG_LEVEL_WARNING, "run '%s': its shim did not end it in time, and is killed",
                 r->info->id);
        r->overdue = true;
        finish_begin(r);
        return 0;
}

int deadline_watch(LiveRun *r, Error **reterr) {
        int k = sd_event_add_time_relative(r->sv->event, &r->deadline, CLOCK_BOOTTIME,
                                           r->plan->timeout_us + deadline_grace_us(r), 0,
                                           deadline_passed, r);

        r->deadline_reason = CARREL__V1__REASON__REASON_TIMEOUT;
        return k < 0 ? error_set(reterr, -k, "cannot watch the run's time") : 0;
}

void deadline_hasten(LiveRun *r, Carrel__V1__Reason reason) {
        if (!r->deadline || r->deadline_reason != CARREL__V1__REASON__REASON_TIMEOUT)
                return; /* to ask again does not give it more time */
        r->deadline_reason = reason;
        (void)sd_event_source_set_time_relative(r->deadline, deadline_grace_us(r));
}

bool deadline_explains(const LiveRun *r, Outcome *o) {
        Error *error = NULL;

        for (size_t i = 0; r->overdue && i < ELEMENTSOF(deadline_outcomes); i++) {
                if (deadline_outcomes[i].reason != r->deadline_reason)
                        continue;
                error_refuse(&error, ETIMEDOUT, "see what it printed: carrel logs",
                             "%s, and its shim, held up by what the harness gave it, was killed",
                             deadline_outcomes[i].why);
                o->state = deadline_outcomes[i].state;
                o->reason = r->deadline_reason;
                o->error = error_to_message(error);
                error_free(error);
                return true;
        }
        return false;
}
