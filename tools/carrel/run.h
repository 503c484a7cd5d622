/* carrel run: what its files share. */
#pragma once

#include "carrel/cli.h"
#include "proto/text/text.h"

typedef struct RunValues {
        CliCommon common;
        const char *name, *owner, *policy, *image, *source;
        uint64_t timeout_us;
        OptionList environment; /* NAME=VALUE */
        OptionList grants;      /* NAME=FILE */
        OptionList approve;     /* PATTERN */
        bool json, quiet, detach, tty, no_tty;
} RunValues;

/* A request to submit, and what it owns. */
typedef struct Submission {
        Task *task;
        Policy *policy;      /* NULL: the supervisor knows the profile that the task names */
        GrantValue **grants; /* values read here; wiped when done with */
        size_t n_grants;
        TextPlaces *places; /* where the task's fields stand in its file; NULL for a command */
} Submission;

void submission_done(Submission *s);

/**
 * submission_from_file() - a task's file, with the options that override it
 *
 * Paths in the file are relative to its directory and come out absolute. What is wrong is refused
 * with file, line and column.
 */
int submission_from_file(const char *path,
                         const RunValues *v,
                         Submission *ret_submission,
                         Error **reterr);

/** submission_from_command() - a task that is one command, on the current directory. */
int submission_from_command(char *const *command,
                            size_t n,
                            const RunValues *v,
                            Submission *ret_submission,
                            Error **reterr);

/** submission_send() - submit; @fds are the run's ends where it is attached. */
int submission_send(const Submission *s,
                    Client *c,
                    const int *fds,
                    size_t n_fds,
                    const WindowSize *terminal,
                    Run **ret_run,
                    Error **reterr);

/** run_attached() - submit a command with our standard descriptors relayed. Return: exit status,
 * -errno. */
int run_attached(Client *c, const Submission *s, const RunValues *v, Error **reterr);

/** run_followed() - submit a task and show how it goes. Return: exit status, -errno. */
int run_followed(Client *c, const Submission *s, const RunValues *v, Error **reterr);

/** run_watch() - ask for a run's events from the first until it ends. */
int run_watch(Client *c, const char *run, uint64_t *ret_id, Error **reterr);

/** run_stop() - ask for its end because of a signal; the answer is not waited for. */
int run_stop(Client *c, const char *run, int signal_number, Error **reterr);
