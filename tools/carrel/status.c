#include "carrel/status.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

int status_of_task(const Outcome *o) {
        switch (o->state) {
        case CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED:
                return 0;
        case CARREL__V1__RUN_STATE__RUN_STATE_FAILED:
                return STATUS_FAILED;
        case CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT:
                return STATUS_TIMEOUT;
        case CARREL__V1__RUN_STATE__RUN_STATE_STOPPED:
                return STATUS_STOPPED;
        default:
                return STATUS_CARREL;
        }
}

/* Status 126 and 127 are the shell's words for a command that could not be started; or @otherwise.
 */
static int status_of_start(const Outcome *o, int otherwise) {
        if (o->error && o->error->code == ENOENT)
                return STATUS_NOT_FOUND;
        if (o->error && (o->error->code == EACCES || o->error->code == ENOEXEC))
                return STATUS_NOT_EXECUTABLE;
        return otherwise;
}

static int status_of_failed(const Outcome *o) {
        if (o->signal)
                return STATUS_SIGNAL + (int)o->signal;
        if (o->exit_status)
                return (int)(o->exit_status & 0xff);
        if (o->reason == CARREL__V1__REASON__REASON_OUT_OF_MEMORY)
                return STATUS_SIGNAL + SIGKILL;
        return status_of_start(o, STATUS_FAILED);
}

/* Of all that a workspace's setup can miss, only the command is the caller's word. */
static int status_of_errored(const Outcome *o) {
        if (o->error && strcmp(o->error->field, "harness.command") == 0)
                return status_of_start(o, STATUS_CARREL);
        return STATUS_CARREL;
}

int status_of_command(const Outcome *o) {
        switch (o->state) {
        case CARREL__V1__RUN_STATE__RUN_STATE_SUCCEEDED:
                return 0;
        case CARREL__V1__RUN_STATE__RUN_STATE_FAILED:
                return status_of_failed(o);
        case CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT:
                return STATUS_TIMEOUT;
        case CARREL__V1__RUN_STATE__RUN_STATE_STOPPED:
                return o->signal        ? STATUS_SIGNAL + (int)o->signal
                       : o->exit_status ? (int)(o->exit_status & 0xff)
                                        : STATUS_SIGNAL + SIGTERM;
        default:
                return status_of_errored(o);
        }
}
