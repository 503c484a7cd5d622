/* A run's outcome as an exit status; the manual page carrel(1) promises these. */
#pragma once

#include "proto/messages.h"

#define STATUS_FAILED         1   /* a task's checks or harness failed; a subcommand failed */
#define STATUS_USAGE          2   /* the command line is wrong */
#define STATUS_STOPPED        3   /* a task's run was stopped */
#define STATUS_TIMEOUT        124 /* as timeout(1) */
#define STATUS_CARREL         125 /* carrel could not do its part; as env(1) and docker run */
#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND      127
#define STATUS_SIGNAL         128 /* plus the signal's number */

/** status_of_task() - of `carrel run TASK.yaml`. */
int status_of_task(const Outcome *o);

/** status_of_command() - of `carrel run -- COMMAND`: the command's own, where it has one. */
int status_of_command(const Outcome *o);
