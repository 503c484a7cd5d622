/* carrel: dispatch, help, and the one place that prints errors. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "carrel/cli.h"
#include "carrel/status.h"
#include "proto/text/suggest.h"

static const Option cli_common_options[] = {
        CLI_OPTION(CliCommon,
                   socket,
                   0,
                   OPTION_STRING,
                   "socket",
                   "PATH",
                   "where the supervisor listens [CARREL_SOCKET]"),
        CLI_OPTION(CliCommon,
                   state_dir,
                   0,
                   OPTION_STRING,
                   "state-dir",
                   "DIR",
                   "records, without a supervisor [CARREL_STATE_DIR]"),
        CLI_OPTION(CliCommon,
                   no_daemon,
                   0,
                   OPTION_FLAG,
                   "no-daemon",
                   NULL,
                   "start a supervisor for this command alone"),
        CLI_OPTION(CliCommon, help, 'h', OPTION_FLAG, "help", NULL, "show this"),
};

static const Command *const cli_commands[] = {
        &command_run,    &command_ps,    &command_logs,     &command_events, &command_artifacts,
        &command_diff,   &command_apply, &command_feedback, &command_stop,   &command_rm,
        &command_policy, &command_audit, &command_doctor,
};

static const Command *cli_find(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(cli_commands); i++)
                if (strcmp(cli_commands[i]->name, name) == 0)
                        return cli_commands[i];
        return NULL;
}

static void cli_help_all(FILE *to) {
        fputs("Usage: carrel COMMAND [OPTION...] [ARGUMENT...]\n\n"
              "Runs coding agents in sandboxed workspaces, and keeps a record of each run.\n\n"
              "Commands:\n",
              to);
        for (size_t i = 0; i < ELEMENTSOF(cli_commands); i++)
                fprintf(to, "  %-12s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
        fputs("\n"
              "  carrel run -- make test       run a command on a copy-on-write view of this "
              "directory\n"
              "  carrel run task.yaml          run a task: agent, checks, feedback\n"
              "  carrel diff last              see what the last run changed\n"
              "  carrel apply last             put that into the original directory\n"
              "\n"
              "carrel COMMAND --help explains a command; carrel(1) all of them.\n",
              to);
}

static void cli_help_command(FILE *to, const Command *c) {
        const char *line = c->synopsis;

        for (const char *lead = "Usage:"; *line; lead = "      ") {
                size_t n = strcspn(line, "\n");

                fprintf(to, "%s carrel %s %.*s\n", lead, c->name, (int)n, line);
                line += n + (line[n] == '\n');
        }
        fprintf(to, "\n%s.\n", c->summary);
        if (c->details)
                fprintf(to, "\n%s\n", c->details);
        if (c->options.n) {
                fputs("\nOptions:\n", to);
                option_help(to, &c->options);
        }
        fputs("\nCommon options:\n", to);
        option_help(to, &OPTION_TABLE(cli_common_options));
}

static int cli_refuse_command(const char *name, Error **reterr) {
        const char *names[ELEMENTSOF(cli_commands)], *near;

        for (size_t i = 0; i < ELEMENTSOF(cli_commands); i++)
                names[i] = cli_commands[i]->name;
        near = text_suggest(name, names, ELEMENTSOF(names));
        error_refuse(reterr, EINVAL, NULL, "unknown command '%s'", name);
        if (near)
                return error_hint(reterr, -EINVAL, "did you mean 'carrel %s'?", near);
        return error_hint(reterr, -EINVAL, "`carrel help` lists the commands");
}

static int cli_check_operands(const Command *c, const Operands *o, Error **reterr) {
        if (o->n >= c->min_operands && o->n <= c->max_operands)
                return 0;
        error_refuse(reterr, EINVAL, NULL,
                     o->n < c->min_operands ? "%s: an argument is missing"
                                            : "%s: too many arguments",
                     c->name);
        return error_hint(reterr, -EINVAL, "usage: carrel %s %.*s", c->name,
                          (int)strcspn(c->synopsis, "\n"), c->synopsis);
}

/* Return: exit status; negative errno and *ret_usage for a wrong command line. */
static int
cli_run_command(const Command *c, size_t argc, char **argv, bool *ret_usage, Error **reterr) {
        const OptionTable tables[] = {c->options, OPTION_TABLE(cli_common_options)};
        _cleanup_free_ void *values = calloc(1, c->values_size);
        Operands operands = {};
        int r;

        *ret_usage = false;
        if (!values)
                return error_set(reterr, ENOMEM, "cannot read the command line");
        r = option_parse(tables, ELEMENTSOF(tables), argc, argv, values, &operands, reterr);
        if (r >= 0 && ((const CliCommon *)values)->help) {
                cli_help_command(stdout, c);
                r = cli_flush(reterr);
        } else {
                if (r >= 0)
                        r = cli_check_operands(c, &operands, reterr);
                *ret_usage = r < 0;
                if (r >= 0)
                        r = c->run(values, &operands, reterr);
        }
        option_done(tables, ELEMENTSOF(tables), values);
        free(operands.items);
        return r;
}

static int cli_fail(const Error *e, int status) {
        error_print(stderr, "carrel", e);
        return status;
}

/* `carrel`, `carrel --version`, `carrel help [COMMAND]`: what needs no command. Return: status, or
 * -1. */
static int cli_run_builtin(int argc, char **argv) {
        const char *first = argc > 1 ? argv[1] : NULL;
        const Command *c;

        if (!first) {
                cli_help_all(stderr);
                return STATUS_USAGE;
        }
        if (strcmp(first, "--version") == 0 || strcmp(first, "version") == 0) {
                puts("carrel " CARREL_VERSION);
                return 0;
        }
        if (strcmp(first, "help") != 0 && strcmp(first, "--help") != 0 && strcmp(first, "-h") != 0)
                return -1;
        c = argc > 2 ? cli_find(argv[2]) : NULL;
        if (c)
                cli_help_command(stdout, c);
        else if (argc > 2)
                return -1;
        else
                cli_help_all(stdout);
        return 0;
}

/* A descriptor that we open must never pass for standard input, output or error. */
static void cli_open_standard(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                close(fd);
}

int main(int argc, char **argv) {
        _cleanup_error_ Error *e = NULL;
        const Command *c;
        bool usage;
        int r;

        cli_open_standard();
        r = cli_run_builtin(argc, argv);
        if (r >= 0)
                return cli_flush(&e) < 0 ? cli_fail(e, STATUS_FAILED) : r;
        if (strcmp(argv[1], "help") == 0 && argc > 2)
                argv[1] = argv[2];
        c = cli_find(argv[1]);
        if (!c) {
                cli_refuse_command(argv[1], &e);
                return cli_fail(e, STATUS_USAGE);
        }
        r = cli_run_command(c, (size_t)argc - 2, argv + 2, &usage, &e);
        if (r >= 0)
                return r;
        return cli_fail(e, c->failure ? c->failure : usage ? STATUS_USAGE : STATUS_FAILED);
}
