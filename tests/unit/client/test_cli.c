/* The carrel command's pure parts: options, exit statuses, lines about events, escaping. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "carrel/escape.h"
#include "carrel/option.h"
#include "carrel/render.h"
#include "carrel/status.h"

typedef struct Values {
        bool all, follow;
        const char *name;
        uint64_t limit, timeout_us;
        OptionList list;
} Values;

static const Option options[] = {
        {"all", 'a', OPTION_FLAG, NULL, "all of it", offsetof(Values, all)},
        {"follow", 'f', OPTION_FLAG, NULL, "go on", offsetof(Values, follow)},
        {"name", 0, OPTION_STRING, "NAME", "a name", offsetof(Values, name)},
        {"limit", 'n', OPTION_NUMBER, "N", "how many", offsetof(Values, limit)},
        {"timeout", 0, OPTION_DURATION, "DURATION", "how long", offsetof(Values, timeout_us)},
        {"env", 'e', OPTION_LIST, "NAME=VALUE", "more", offsetof(Values, list)},
};
static const OptionTable tables[] = {{options, ELEMENTSOF(options)}};

static int parse(char **argv, Values *v, Operands *o, Error **reterr) {
        size_t n = 0;

        while (argv[n])
                n++;
        *v = (Values){};
        return option_parse(tables, 1, n, argv, v, o, reterr);
}

#define ARGV(...) ((char *[]){__VA_ARGS__, NULL})
#define A(s)      ((char[]){s}) /* option_parse() takes argv, which is not const */

static void options_and_operands_may_be_mixed(void **state) {
        Operands o;
        Values v;

        assert_int_equal(parse(ARGV(A("one"), A("-afn5"), A("--name=x=y"), A("two"), A("--timeout"),
                                    A("1h30m")),
                               &v, &o, NULL),
                         0);
        assert_true(v.all && v.follow);
        assert_int_equal(v.limit, 5);
        assert_string_equal(v.name, "x=y");
        assert_int_equal(v.timeout_us, 5400 * USEC_PER_SEC);
        assert_int_equal(o.n, 2);
        assert_string_equal(o.items[1], "two");
        assert_false(o.dashes);
        free(o.items);
}

static void what_follows_two_dashes_is_no_option(void **state) {
        Operands o;
        Values v;

        assert_int_equal(parse(ARGV(A("t"), A("-e"), A("A=1"), A("-eB=2"), A("--"), A("ls"),
                                    A("--all"), A("--")),
                               &v, &o, NULL),
                         0);
        assert_false(v.all);
        assert_int_equal(v.list.n, 2);
        assert_string_equal(v.list.items[1], "B=2");
        assert_true(o.dashes);
        assert_int_equal(o.before, 1);
        assert_int_equal(o.n, 4);
        assert_string_equal(o.items[3], "--");
        free(o.items);
        option_done(tables, 1, &v);
        assert_null(v.list.items);
}

static void assert_refused(char **argv, const char *what, const char *hint) {
        _cleanup_error_ Error *e = NULL;
        Operands o;
        Values v;

        assert_int_equal(parse(argv, &v, &o, &e), -EINVAL);
        assert_string_equal(e->what, what);
        assert_non_null(strstr(e->hint, hint));
}

static void a_wrong_option_is_refused_with_its_name(void **state) {
        assert_refused(ARGV(A("--folow")), "unknown option '--folow'", "did you mean '--follow'?");
        assert_refused(ARGV(A("-az")), "unknown option '-z'", "--help");
        assert_refused(ARGV(A("--name")), "option '--name' needs a value (NAME)", "--help");
        assert_refused(ARGV(A("--all=1")), "option '--all' takes no value", "drop");
        assert_refused(ARGV(A("-n"), A("5x")), "'--limit': '5x' is not a number", "number");
        assert_refused(ARGV(A("--timeout=90")), "'--timeout': '90' is not a duration", "90s");
}

static int
command_status(int state, int reason, unsigned status, unsigned signal_number, int code) {
        ErrorMessage e = CARREL__V1__ERROR__INIT;
        Outcome o = CARREL__V1__OUTCOME__INIT;

        o.state = (Carrel__V1__RunState)state;
        o.reason = (Carrel__V1__Reason)reason;
        o.exit_status = status;
        o.signal = signal_number;
        e.code = code;
        o.error = code ? &e : NULL;
        return status_of_command(&o);
}

#define STATE(s)  CARREL__V1__RUN_STATE__RUN_STATE_##s
#define REASON(s) CARREL__V1__REASON__REASON_##s

static void a_command_s_status_is_its_own(void **state) {
        assert_int_equal(command_status(STATE(SUCCEEDED), REASON(DONE), 0, 0, 0), 0);
        assert_int_equal(command_status(STATE(FAILED), REASON(HARNESS_FAILED), 42, 0, 0), 42);
        assert_int_equal(command_status(STATE(FAILED), REASON(HARNESS_FAILED), 0, SIGSEGV, 0), 139);
        assert_int_equal(command_status(STATE(FAILED), REASON(OUT_OF_MEMORY), 0, 0, 0), 137);
        assert_int_equal(command_status(STATE(FAILED), REASON(HARNESS_FAILED), 0, 0, ENOENT), 127);
        assert_int_equal(command_status(STATE(FAILED), REASON(HARNESS_FAILED), 0, 0, EACCES), 126);
        assert_int_equal(command_status(STATE(TIMED_OUT), REASON(TIMEOUT), 0, SIGTERM, 0), 124);
        assert_int_equal(command_status(STATE(STOPPED), REASON(STOPPED), 0, 0, 0), 143);
        assert_int_equal(command_status(STATE(ERRORED), REASON(SETUP_FAILED), 0, 0, ENOENT), 125);
        assert_int_equal(command_status(0, 0, 0, 0, 0), 125);
}

static void a_task_s_status_tells_how_it_ended(void **state) {
        static const struct {
                Carrel__V1__RunState state;
                int status;
        } expected[] = {
                {STATE(SUCCEEDED), 0},   {STATE(FAILED), 1},    {STATE(STOPPED), 3},
                {STATE(TIMED_OUT), 124}, {STATE(ERRORED), 125}, {STATE(RUNNING), 125},
        };

        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                Outcome o = CARREL__V1__OUTCOME__INIT;

                o.state = expected[i].state;
                o.exit_status = 9;
                assert_int_equal(status_of_task(&o), expected[i].status);
        }
}

static void assert_line(const Event *e, bool live, const char *expected) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        render_event(f, e, 1000000, live);
        fclose(f);
        assert_string_equal(text, expected);
}

static void an_event_is_one_escaped_line(void **state) {
        Carrel__V1__CheckFinished check = CARREL__V1__CHECK_FINISHED__INIT;
        Carrel__V1__StatusReported said = CARREL__V1__STATUS_REPORTED__INIT;
        Event e = CARREL__V1__EVENT__INIT;
        char name[] = "unit", summary[] = "2 red\nmore", words[] = "\033[31mhi\033]0;title\a";

        e.time_unix_us = 2250000;
        e.body_case = CARREL__V1__EVENT__BODY_CHECK_FINISHED;
        e.check_finished = &check;
        check.check = name;
        check.tests = 10;
        check.failures = 2;
        check.summary = summary;
        assert_line(&e, true, "   +1.250s  check 'unit' failed: 2 red ...\n");

        e.body_case = CARREL__V1__EVENT__BODY_STATUS_REPORTED;
        e.status_reported = &said;
        said.text = words;
        assert_line(&e, true, "   +1.250s  harness says: \\x1b[31mhi\\x1b]0;title\\x07\n");
}

static void live_leaves_out_what_nobody_misses(void **state) {
        Carrel__V1__StateChanged changed = CARREL__V1__STATE_CHANGED__INIT;
        Event e = CARREL__V1__EVENT__INIT;

        changed.from = STATE(PREPARING);
        changed.to = STATE(TIMED_OUT);
        e.body_case = CARREL__V1__EVENT__BODY_STATE_CHANGED;
        e.state_changed = &changed;
        assert_line(&e, true, "");
        assert_line(&e, false, "   +0.000s  preparing -> timed-out\n");
        e.body_case = (Carrel__V1__Event__BodyCase)4711;
        assert_line(&e, false, "   +0.000s  an event that this carrel does not know\n");
}

/* Feeds in pieces of every size, as reads may cut anywhere. */
static void assert_escaped(const char *in, const char *expected) {
        for (size_t piece = 1; piece <= strlen(in) + 1; piece++) {
                _cleanup_free_ char *text = NULL;
                size_t size;
                FILE *f = open_memstream(&text, &size);
                Escaper e = {.to = f};

                assert_non_null(f);
                for (size_t at = 0; at < strlen(in); at += piece)
                        escaper_feed(&e, in + at, MIN_OF(piece, strlen(in) - at));
                escaper_end(&e);
                fclose(f);
                assert_string_equal(text, expected);
        }
}

static void only_colours_pass_to_a_terminal(void **state) {
        assert_escaped("a\tb\r\n\033[1;31mred\033[0m\n", "a\tb\r\n\033[1;31mred\033[0m\n");
        assert_escaped("\033[2J", "\\x1b[2J");
        assert_escaped("\033]0;x\a", "\\x1b]0;x\\x07");
        assert_escaped("10%\r20%", "10%\\x0d20%");
        assert_escaped("\033", "\\x1b");
        assert_escaped("\033\033[0m", "\\x1b\033[0m");
        assert_escaped("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
                       "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80");
        assert_escaped("\xc2\x9b"
                       "2J",
                       "\\xc2\\x9b2J");
        assert_escaped("\xe2\x80\xae", "\\xe2\\x80\\xae");
        assert_escaped("\xc0\xaf\xff", "\\xc0\\xaf\\xff");
        assert_escaped("\xe2\x82", "\\xe2\\x82");
        assert_escaped("\033[0000000000000000000000000000000000000m",
                       "\\x1b[0000000000000000000000000000000000000m");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(options_and_operands_may_be_mixed),
                cmocka_unit_test(what_follows_two_dashes_is_no_option),
                cmocka_unit_test(a_wrong_option_is_refused_with_its_name),
                cmocka_unit_test(a_command_s_status_is_its_own),
                cmocka_unit_test(a_task_s_status_tells_how_it_ended),
                cmocka_unit_test(an_event_is_one_escaped_line),
                cmocka_unit_test(live_leaves_out_what_nobody_misses),
                cmocka_unit_test(only_colours_pass_to_a_terminal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
