#include "carrel/status.h"

#include <errno.h>
#include <signal.h>

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

/* Status 126 and 127 are the shell's words for a command that could not be started. */
static int status_of_failed(const Outcome *o) {
        if (o->signal)
                return STATUS_SIGNAL + (int)o->signal;
        if (o->exit_status)
                return (int)(o->exit_status & 0xff);
        if (o->reason == CARREL__V1__REASON__REASON_OUT_OF_MEMORY)
                return STATUS_SIGNAL + SIGKILL;
        if (o->error && o->error->code == ENOENT)
                return STATUS_NOT_FOUND;
        if (o->error && (o->error->code == EACCES || o->error->code == ENOEXEC))
                return STATUS_NOT_EXECUTABLE;
        return STATUS_FAILED;
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
                return STATUS_CARREL;
        }
}
