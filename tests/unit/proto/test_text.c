#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "proto/text/text.h"

static Task *parse_task(const char *text, TextPlaces **ret_places) {
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        if (text_parse("task.yaml", text, strlen(text), &carrel__v1__task__descriptor, &m,
                       ret_places, &err) < 0)
                fail_msg("%s", err->what);
        return m;
}

/* Files in the data directories are named after their message: "task-unknown-field.yaml". */
static const MessageDescriptor *descriptor_of(const char *file) {
        static const struct {
                const char *prefix;
                const MessageDescriptor *descriptor;
        } known[] = {
                {"event-", &carrel__v1__event__descriptor},
                {"image-", &carrel__v1__image__descriptor},
                {"plan-", &carrel__v1__plan__descriptor},
                {"policy-", &carrel__v1__policy__descriptor},
                {"request-", &carrel__v1__request__descriptor},
                {"run-", &carrel__v1__run__descriptor},
                {"task-", &carrel__v1__task__descriptor},
        };

        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (strncmp(file, known[i].prefix, strlen(known[i].prefix)) == 0)
                        return known[i].descriptor;
        fail_msg("'%s' names no message", file);
        return NULL;
}

static bool ends_in(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && strcmp(s + n - m, suffix) == 0;
}

/* Calls @check for each file but the expectations beside them. Return: how many. */
static size_t for_each_file(const char *path, void (*check)(int dir_fd, const char *file)) {
        DIR *dir = opendir(path);
        struct dirent *de;
        size_t n = 0;

        assert_non_null(dir);
        while ((de = readdir(dir)))
                if (de->d_name[0] != '.' && !ends_in(de->d_name, ".expected")) {
                        check(dirfd(dir), de->d_name);
                        n++;
                }
        closedir(dir);
        return n;
}

static void expect_recorded_error(int dir_fd, const char *file) {
        _cleanup_free_ char *expected = NULL, *said = NULL, *name = NULL;
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        if (text_parse_file(dir_fd, file, descriptor_of(file), &m, NULL, &err) == 0)
                fail_msg("'%s' was accepted", file);
        assert_null(m);
        assert_true(asprintf(&said, "%s\n%s%s%s%s%s%s", err->what, err->hint ? "hint: " : "",
                             err->hint ?: "", err->hint ? "\n" : "", err->field ? "field: " : "",
                             err->field ?: "", err->field ? "\n" : "") > 0);
        assert_true(asprintf(&name, "%s.expected", file) > 0);
        assert_int_equal(file_read_at(dir_fd, name, MIB, &expected, NULL, NULL), 0);
        assert_string_equal(said, expected);
}

static void every_file_to_reject_fails_with_its_recorded_error(void **state) {
        assert_true(for_each_file(DATA_DIR "/reject/text", expect_recorded_error) > 30);
}

static void expect_fixed_point(int dir_fd, const char *file) {
        _cleanup_free_ char *text = NULL, *printed = NULL;
        _cleanup_error_ Error *err = NULL;
        _cleanup_message_ void *m = NULL;
        bool json = ends_in(file, ".json");

        if (text_parse_file(dir_fd, file, descriptor_of(file), &m, NULL, &err) < 0)
                fail_msg("%s", err->what);
        assert_int_equal(file_read_at(dir_fd, file, MIB, &text, NULL, NULL), 0);
        assert_int_equal(text_print(m, json ? TEXT_FORMAT_JSON : TEXT_FORMAT_YAML, &printed, NULL),
                         0);
        assert_string_equal(printed, text);
}

static void every_golden_file_prints_as_it_is(void **state) {
        assert_true(for_each_file(DATA_DIR "/golden/text", expect_fixed_point) >= 4);
}

static void a_task_comes_with_all_its_values(void **state) {
        _cleanup_message_ Task *t = parse_task("name: fix-1000\n"
                                               "owner: true\n" /* text, because the field is text */
                                               "prompt: |\n  line one\n  line two\n"
                                               "harness:\n"
                                               "  command: [agent, --fast, 1000]\n"
                                               "  timeout: 1h30m\n"
                                               "  environment: {B: '2', A: 1}\n"
                                               "  prompt_delivery: argument\n"
                                               "attempts: 3\n",
                                               NULL);

        assert_string_equal(t->name, "fix-1000");
        assert_string_equal(t->owner, "true");
        assert_string_equal(t->prompt, "line one\nline two\n");
        assert_int_equal(t->harness->n_command, 3);
        assert_string_equal(t->harness->command[2], "1000");
        assert_int_equal(t->harness->timeout_us, 5400000000);
        assert_int_equal(t->harness->n_environment, 2);
        assert_string_equal(t->harness->environment[0]->key, "B");
        assert_string_equal(t->harness->environment[1]->value, "1");
        assert_int_equal(t->harness->prompt_delivery,
                         CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_ARGUMENT);
        assert_int_equal(t->attempts, 3);
}

static void json_says_the_same_as_yaml(void **state) {
        _cleanup_message_ Task *yaml =
                parse_task("name: a/b\ntimeout: 1m\nchecks:\n- name: \"\\U0001F600\"\n", NULL);
        _cleanup_message_ Task *json =
                parse_task("{\"name\": \"a\\/b\", \"timeout\": \"1m\",\n"
                           "\t\"checks\": [{\"name\": \"\\ud83d\\ude00\"}], \"image\": null}",
                           NULL);
        _cleanup_free_ char *a = NULL, *b = NULL;

        assert_int_equal(text_print(&yaml->base, TEXT_FORMAT_JSON_LINE, &a, NULL), 0);
        assert_int_equal(text_print(&json->base, TEXT_FORMAT_JSON_LINE, &b, NULL), 0);
        assert_string_equal(a, b);
        assert_string_equal(a, "{\"name\": \"a/b\", \"checks\": [{\"name\": \"\\uD83D\\uDE00\"}], "
                               "\"timeout\": \"1m\"}");
}

static void a_text_without_fields_is_an_empty_message(void **state) {
        static const char *const texts[] = {"",    "\n", "# nothing\n", "---\n",
                                            "~\n", "{}", "null",        "name:\n"};

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_message_ Task *t = parse_task(texts[i], NULL);
                _cleanup_free_ char *text = NULL;

                assert_int_equal(text_print(&t->base, TEXT_FORMAT_YAML, &text, NULL), 0);
                assert_string_equal(text, "{}\n");
        }
}

static void later_checks_can_say_where_a_field_stood(void **state) {
        static const struct {
                const char *field, *what;
        } cases[] = {
                {"name", "task.yaml:1:7: bad"},
                {"harness", "task.yaml:2:1: bad"},
                {"harness.environment.A.B", "task.yaml:4:10: bad"},
                {"harness.working_directory",
                 "task.yaml:2:1: bad"}, /* not there: the harness itself */
                {"checks[1].timeout", "task.yaml:7:12: bad"},
                {"checks[1]", "task.yaml:6:3: bad"},
                {"checks[10].timeout", "task.yaml:5:1: bad"},
                {"owner", "task.yaml:1:1: bad"},
        };
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        _cleanup_message_ Task *t = parse_task("name: x\n"
                                               "harness:\n"
                                               "  environment:\n"
                                               "    A.B: value\n"
                                               "checks: [{name: a},\n"
                                               "  {name: b,\n"
                                               "  timeout: 10s}]\n",
                                               &places);

        assert_int_equal(t->n_checks, 2);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_error_ Error *err = error_new_copy(EINVAL, "bad", NULL, cases[i].field);

                text_locate(places, err);
                assert_string_equal(err->what, cases[i].what);
        }
        {
                _cleanup_error_ Error *err = error_new_copy(EINVAL, "bad", NULL, NULL);

                text_locate(places, err);
                assert_string_equal(err->what, "bad");
        }
}

static void expect_error(const char *text, size_t size, int code, const char *what) {
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        assert_int_equal(text_parse("t", text, size, &carrel__v1__task__descriptor, &m, NULL, &err),
                         code);
        assert_string_equal(err->what, what);
}

static void what_is_too_much_is_refused(void **state) {
        static char text[MIB + 1];
        size_t n;

        memset(text, ' ', sizeof text);
        expect_error(text, sizeof text, -E2BIG, "t: larger than 1048576 bytes");
        n = (size_t)snprintf(text, sizeof text, "harness: {command: [");
        for (size_t i = 0; i < 20000; i++)
                n += (size_t)snprintf(text + n, sizeof text - n, "a,\n ");
        n += (size_t)snprintf(text + n, sizeof text - n, "]}");
        expect_error(text, n, -E2BIG, "t:19996:2: more than 20000 values");
}

static void bytes_that_would_end_the_text_early_are_refused(void **state) {
        expect_error("name: a\nowner: \0b", 17, -EINVAL, "t:2:8: control character 0x00");
        expect_error("name: a\nowner: \xff", 16, -EINVAL, "t:2:8: byte 0xff is not UTF-8");
        expect_error("name: \xed\xa0\x80", 9, -EINVAL, "t:1:7: byte 0xed is not UTF-8");
        expect_error("name: \x1b[31m", 11, -EINVAL, "t:1:7: control character 0x1b");
        expect_error("name: \"a\\0b\"", 12, -EINVAL,
                     "t:1:7: 'name' must be text without zero bytes, not 'a...'");
}

static void a_missing_file_is_named(void **state) {
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        assert_int_equal(text_parse_file(AT_FDCWD, "no/such.yaml", &carrel__v1__task__descriptor,
                                         &m, NULL, &err),
                         -ENOENT);
        assert_string_equal(err->what, "cannot open 'no/such.yaml': No such file or directory");
}

static void enumerators_have_plain_names(void **state) {
        const ProtobufCEnumDescriptor *d = &carrel__v1__run_state__descriptor;

        assert_string_equal(text_enum(d, CARREL__V1__RUN_STATE__RUN_STATE_TIMED_OUT), "timed-out");
        assert_string_equal(text_enum(d, 99), "?");
        assert_ptr_equal(text_enum(d, 1), text_enum(d, 1));
}

/* Also with an empty member of a oneof, which must show that it was chosen. */
static void an_event_prints_on_one_line(void **state) {
        Carrel__V1__WorkspaceReady ready = CARREL__V1__WORKSPACE_READY__INIT;
        Event e = CARREL__V1__EVENT__INIT;
        _cleanup_free_ char *text = NULL;
        uint8_t digest[] = {0xff, 0x00};

        e.sequence = 7;
        e.time_unix_us = 1769860800000000;
        e.previous_sha256 = (ProtobufCBinaryData){.len = sizeof digest, .data = digest};
        e.body_case = CARREL__V1__EVENT__BODY_WORKSPACE_READY;
        e.workspace_ready = &ready;
        assert_int_equal(text_print(&e.base, TEXT_FORMAT_JSON_LINE, &text, NULL), 0);
        assert_string_equal(text, "{\"sequence\": 7, \"time\": \"2026-01-31T12:00:00.000000Z\", "
                                  "\"previous_sha256\": \"/wA=\", \"workspace_ready\": {}}");
}

static void a_peers_broken_text_prints_with_marks(void **state) {
        Task t = CARREL__V1__TASK__INIT;
        _cleanup_free_ char *text = NULL;
        char prompt[] = "a\xff\x1b[31m";

        t.prompt = prompt;
        assert_int_equal(text_print(&t.base, TEXT_FORMAT_YAML, &text, NULL), 0);
        assert_string_equal(text, "prompt: \"a\xef\xbf\xbd\\e[31m\"\n");
}

static void an_enumerator_of_a_newer_carrel_prints_as_its_number(void **state) {
        _cleanup_message_ void *again = NULL;
        _cleanup_free_ char *text = NULL;
        Run r = CARREL__V1__RUN__INIT;

        r.state = (RunState)99;
        assert_int_equal(text_print(&r.base, TEXT_FORMAT_YAML, &text, NULL), 0);
        assert_string_equal(text, "state: 99\n");
        assert_int_equal(text_parse("t", text, strlen(text), &carrel__v1__run__descriptor, &again,
                                    NULL, NULL),
                         0);
        assert_int_equal(((Run *)again)->state, 99);
}

static int parse_known(const char *text, Task **ret, Error **reterr) {
        void *m = NULL;
        int r = text_parse_known("foreign.json", text, strlen(text), &carrel__v1__task__descriptor,
                                 &m, reterr);

        *ret = m;
        return r;
}

static void a_foreign_formats_unknown_fields_are_skipped(void **state) {
        _cleanup_message_ Task *t = NULL;
        _cleanup_error_ Error *e = NULL;

        if (parse_known("{\"x\": 1, \"name\": \"a\", \"y\": [1, [2, {\"name\": \"no\"}]], \"z\": "
                        "{\"z\": "
                        "{}}, \"checks\": [{\"q\": null, \"name\": \"c\", \"r\": {\"name\": 7}}], "
                        "\"w\": "
                        "[], \"owner\": \"b\"}",
                        &t, &e) < 0)
                fail_msg("%s", e->what);
        assert_string_equal(t->name, "a");
        assert_string_equal(t->owner, "b");
        assert_int_equal(t->n_checks, 1);
        assert_string_equal(t->checks[0]->name, "c");
}

static void what_is_skipped_counts_against_the_limits(void **state) {
        static const struct {
                const char *repeated, *end;
                unsigned times;
                int code;
                const char *what;
        } cases[] = {
                {"[", "", 70, -E2BIG, "nested deeper than 64"},
                {"{\"a\":", "", 70, -E2BIG, "nested deeper than 64"},
                {"1, ", "1]}", 20001, -E2BIG, "more than 20000 values"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_message_ Task *t = NULL;
                _cleanup_error_ Error *e = NULL;
                _cleanup_free_ char *text = NULL;
                size_t size = 0;
                FILE *f = open_memstream(&text, &size);

                assert_non_null(f);
                fputs(i < 2 ? "{\"x\": " : "{\"x\": [", f);
                for (unsigned k = 0; k < cases[i].times; k++)
                        fputs(cases[i].repeated, f);
                fputs(cases[i].end, f);
                assert_int_equal(fclose(f), 0);
                assert_int_equal(parse_known(text, &t, &e), cases[i].code);
                assert_non_null(strstr(e->what, cases[i].what));
        }
}

static void what_is_known_of_a_foreign_format_must_be_right(void **state) {
        static const struct {
                const char *text, *what;
        } cases[] = {
                {"{\"x\": 1, \"attempts\": \"many\"}", "'attempts' must be"},
                {"{\"x\": 1, \"checks\": {}}", "'checks' must be a list"},
                {"{\"name\": \"a\", \"name\": \"b\"}", "duplicate key 'name'"},
                {"x: &a [1]", "anchors are not supported"},
                {"x: *a", "alias"},
                {"x: !t 1", "tags are not supported"},
                {"[1]", "must be a mapping"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_message_ Task *t = NULL;
                _cleanup_error_ Error *e = NULL;

                assert_int_equal(parse_known(cases[i].text, &t, &e), -EINVAL);
                if (!strstr(e->what, cases[i].what))
                        fail_msg("%s", e->what);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_file_to_reject_fails_with_its_recorded_error),
                cmocka_unit_test(every_golden_file_prints_as_it_is),
                cmocka_unit_test(a_task_comes_with_all_its_values),
                cmocka_unit_test(json_says_the_same_as_yaml),
                cmocka_unit_test(a_text_without_fields_is_an_empty_message),
                cmocka_unit_test(later_checks_can_say_where_a_field_stood),
                cmocka_unit_test(what_is_too_much_is_refused),
                cmocka_unit_test(bytes_that_would_end_the_text_early_are_refused),
                cmocka_unit_test(a_missing_file_is_named),
                cmocka_unit_test(enumerators_have_plain_names),
                cmocka_unit_test(an_event_prints_on_one_line),
                cmocka_unit_test(a_peers_broken_text_prints_with_marks),
                cmocka_unit_test(an_enumerator_of_a_newer_carrel_prints_as_its_number),
                cmocka_unit_test(a_foreign_formats_unknown_fields_are_skipped),
                cmocka_unit_test(what_is_skipped_counts_against_the_limits),
                cmocka_unit_test(what_is_known_of_a_foreign_format_must_be_right),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
