/*
 * The carrel command: a table of subcommands, each a table of options and a function
 *
 * Trust: runs with the caller's rights and speaks to the supervisor; what a run wrote (names, logs,
 * texts) is hostile to the caller's terminal and is escaped before it gets there.
 */
#pragma once

#include "carrel/option.h"
#include "client/client.h"

/* What every subcommand understands; the first member of its values. */
typedef struct CliCommon {
        const char *socket;
        const char *state_dir;
        bool no_daemon;
        bool help;
} CliCommon;

typedef struct Command {
        const char *name;
        const char *synopsis; /* what follows "carrel <name>"; lines are alternatives */
        const char *summary;  /* one line */
        const char *details;  /* may be NULL */
        OptionTable options;
        size_t values_size;
        size_t min_operands, max_operands;
        int failure; /* exit status where carrel itself fails; 0: STATUS_FAILED, or STATUS_USAGE for
                        usage */

        /* Return: exit status, or negative errno. @values starts with a CliCommon. */
        int (*run)(const void *values, const Operands *operands, Error **reterr);
} Command;

extern const Command command_apply, command_artifacts, command_audit, command_diff, command_doctor,
        command_events, command_feedback, command_logs, command_policy, command_ps, command_rm,
        command_run, command_stop;

#define CLI_RUN_HINT "RUN is an id, the start of one, or 'last'"

/* For entries of option tables; @member lives in struct @type. */
#define CLI_OPTION(type, member, letter_, kind_, name_, argument_, help_)                          \
        {                                                                                          \
                .name = (name_), .letter = (letter_), .kind = (kind_), .argument = (argument_),    \
                .help = (help_), .offset = offsetof(type, member)                                  \
        }

/** cli_connect() - as the common options say. */
int cli_connect(const CliCommon *common, Client **ret_client, Error **reterr);

/** cli_print_json() - one line on stdout. */
int cli_print_json(const Message *m, Error **reterr);

/** cli_each() - send @request and call @use for each reply until the last; @use may take the
 * reply's parts. */
int cli_each(Client *c,
             Request *request,
             int (*use)(Reply *reply, void *data, Error **reterr),
             void *data,
             Error **reterr);

/** cli_flush() - did everything reach stdout? */
int cli_flush(Error **reterr);

/** cli_is_terminal() - true where @f is a terminal, whose owner must be protected. */
bool cli_is_terminal(FILE *f);

/* A string that a message borrows: protobuf-c's fields are not const, its packing does not write.
 */
static inline char *cli_borrow(const char *s) {
        return (char *)(uintptr_t)s;
}
