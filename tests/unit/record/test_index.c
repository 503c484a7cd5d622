#include "record/index.h"

#include <sqlite3.h>
#include <stdio.h>
#include <sys/wait.h>

#include "scratch.h"

static int put(Index *ix, const char *id, uint64_t submitted, RunState state, Error **reterr) {
        char copy[128];
        Run run;

        snprintf(copy, sizeof copy, "%s", id);
        carrel__v1__run__init(&run);
        run.id = copy;
        run.name = copy;
        run.state = state;
        run.submitted_unix_us = submitted;
        return index_put(ix, &run, reterr);
}

#define LIVE  CARREL__V1__RUN_STATE__RUN_STATE_RUNNING
#define ENDED CARREL__V1__RUN_STATE__RUN_STATE_FAILED

static Index *open_index(Scratch *s) {
        _cleanup_error_ Error *err = NULL;
        Index *ix = NULL;

        if (index_open(s->fd, &ix, &err) < 0)
                fail_msg("%s", err->what);
        return ix;
}

static int collect(const Run *run, void *data) {
        char *line = data;

        sprintf(line + strlen(line), "%s ", run->id);
        return strcmp(run->id, "stop-here") == 0 ? -ECANCELED : 0;
}

static void a_row_is_inserted_then_replaced(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *run = NULL;
        char line[256] = "";

        assert_int_equal(put(ix, "abc123", 10, LIVE, NULL), 0);
        assert_int_equal(put(ix, "abc123", 10, ENDED, NULL), 0);
        assert_int_equal(index_find(ix, "abc123", &run, NULL), 0);
        assert_int_equal(run->state, ENDED);
        assert_int_equal(index_list(ix, false, 10, collect, line, NULL), 0);
        assert_string_equal(line, "abc123 ");
}

static void rows_survive_a_reopening(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state), *again = NULL;
        _cleanup_message_ Run *run = NULL;

        assert_int_equal(put(ix, "abc123", 10, LIVE, NULL), 0);
        index_freep(&ix);
        again = open_index(*state);
        assert_int_equal(index_find(again, "abc123", &run, NULL), 0);
}

static void the_list_is_newest_first_and_limited(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        char line[256] = "";

        put(ix, "second", 20, ENDED, NULL);
        put(ix, "third", 30, LIVE, NULL);
        put(ix, "first", 10, LIVE, NULL);
        assert_int_equal(index_list(ix, false, 100, collect, line, NULL), 0);
        assert_string_equal(line, "third second first ");
        *line = 0;
        assert_int_equal(index_list(ix, false, 2, collect, line, NULL), 0);
        assert_string_equal(line, "third second ");
        *line = 0;
        assert_int_equal(index_list(ix, true, 100, collect, line, NULL), 0);
        assert_string_equal(line, "third first ");
}

static void the_caller_can_end_a_list(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        char line[256] = "";

        put(ix, "old", 10, LIVE, NULL);
        put(ix, "stop-here", 20, LIVE, NULL);
        assert_int_equal(index_list(ix, false, 9, collect, line, NULL), -ECANCELED);
        assert_string_equal(line, "stop-here ");
        /* The statement is usable again, and the write does not wait for it. */
        assert_int_equal(put(ix, "new", 30, LIVE, NULL), 0);
}

static void last_is_the_newest(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *run = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(index_find(ix, "last", &run, &err), -ENOENT);
        assert_string_equal(err->what, "there is no run yet");
        put(ix, "newest", 30, ENDED, NULL);
        put(ix, "oldest", 10, LIVE, NULL);
        assert_int_equal(index_find(ix, "last", &run, NULL), 0);
        assert_string_equal(run->id, "newest");
}

static void an_unambiguous_start_of_an_id_is_enough(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *run = NULL, *exact = NULL, *none = NULL;
        _cleanup_error_ Error *many = NULL, *brief = NULL;

        put(ix, "abcd1", 1, LIVE, NULL);
        put(ix, "abce2", 2, LIVE, NULL);
        put(ix, "abce", 3, LIVE, NULL);
        assert_int_equal(index_find(ix, "abcd", &run, NULL), 0);
        assert_string_equal(run->id, "abcd1");
        assert_int_equal(index_find(ix, "abce", &exact, NULL), 0);
        assert_string_equal(exact->id, "abce");
        assert_int_equal(index_find(ix, "abc", &none, &many), -ENOTUNIQ);
        assert_string_equal(many->what, "'abc' could be 'abcd1', 'abce', 'abce2'");
        assert_non_null(strstr(many->hint, "carrel ps -a"));
        assert_int_equal(index_find(ix, "ab", &none, &brief), -ENOENT);
        assert_non_null(strstr(brief->hint, "at least 3 characters"));
        assert_null(none);
}

static void many_candidates_are_not_all_listed(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *none = NULL;
        _cleanup_error_ Error *err = NULL;
        char id[16];

        for (unsigned i = 0; i < 9; i++) {
                snprintf(id, sizeof id, "same%u", i);
                put(ix, id, i, LIVE, NULL);
        }
        assert_int_equal(index_find(ix, "same", &none, &err), -ENOTUNIQ);
        assert_string_equal(
                err->what, "'same' could be 'same0', 'same1', 'same2', 'same3', 'same4' or others");
}

static void characters_of_patterns_and_of_sql_mean_nothing(void **state) {
        static const char *const tried[] = {
                "%%%",         "___",  "abc%",  "a_cdef",       "abc*", "[a]bc",
                "' OR 1=1 --", "abc'", "abc\"", "\xff\xff\xff", "ABC",
        };
        _cleanup_(index_freep) Index *ix = open_index(*state);

        put(ix, "abcdef", 1, LIVE, NULL);
        for (size_t i = 0; i < ELEMENTSOF(tried); i++) {
                _cleanup_message_ Run *run = NULL;
                _cleanup_error_ Error *err = NULL;

                assert_int_equal(index_find(ix, tried[i], &run, &err), -ENOENT);
                assert_non_null(strstr(err->what, tried[i]));
                assert_null(run);
        }
}

static void a_removed_run_is_gone(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *run = NULL;
        _cleanup_error_ Error *err = NULL;

        put(ix, "abcdef", 1, LIVE, NULL);
        assert_int_equal(index_remove(ix, "abcdef", NULL), 0);
        assert_int_equal(index_remove(ix, "abcdef", NULL), 0);
        assert_int_equal(index_find(ix, "abcdef", &run, &err), -ENOENT);
        assert_string_equal(err->what, "there is no run 'abcdef'");
}

static void two_handles_see_each_others_rows(void **state) {
        _cleanup_(index_freep) Index *one = open_index(*state), *two = open_index(*state);
        char id[16];

        for (unsigned i = 0; i < 100; i++) {
                _cleanup_message_ Run *run = NULL;

                snprintf(id, sizeof id, "run-%03u", i);
                assert_int_equal(put(i & 1 ? one : two, id, i, LIVE, NULL), 0);
                assert_int_equal(index_find(i & 1 ? two : one, id, &run, NULL), 0);
        }
}

static _Noreturn void write_fifty(Scratch *s, unsigned process) {
        Index *ix = NULL;
        char id[32];

        if (index_open(s->fd, &ix, NULL) < 0)
                _exit(1);
        for (unsigned i = 0; i < 50; i++) {
                snprintf(id, sizeof id, "run-%u-%u", process, i);
                if (put(ix, id, i, LIVE, NULL) < 0)
                        _exit(2);
        }
        index_free(ix);
        _exit(0);
}

static int count(const Run *run, void *data) {
        ++*(unsigned *)data;
        return 0;
}

static void processes_may_make_and_fill_one_index_at_once(void **state) {
        _cleanup_(index_freep) Index *ix = NULL;
        unsigned n = 0;
        int status;

        for (unsigned i = 0; i < 6; i++)
                if (fork() == 0)
                        write_fifty(*state, i);
        for (unsigned i = 0; i < 6; i++) {
                assert_true(wait(&status) > 0);
                assert_int_equal(status, 0);
        }
        ix = open_index(*state);
        assert_int_equal(index_list(ix, false, 1000, count, &n, NULL), 0);
        assert_int_equal(n, 300);
}

static void a_damaged_index_is_refused_with_what_to_do(void **state) {
        _cleanup_(index_freep) Index *ix = NULL;
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;
        char junk[4096];

        memset(junk, 'x', sizeof junk);
        assert_int_equal(file_create_at(s->fd, "index.sqlite", 0600, junk, sizeof junk, NULL), 0);
        assert_int_equal(index_open(s->fd, &ix, &err), -EBADMSG);
        assert_non_null(strstr(err->what, "'index.sqlite'"));
        assert_non_null(strstr(err->hint, "move the index away"));
}

static void an_index_of_a_later_version_is_refused(void **state) {
        _cleanup_(index_freep) Index *ix = NULL;
        _cleanup_error_ Error *err = NULL;
        char path[128];
        Scratch *s = *state;
        sqlite3 *db;

        snprintf(path, sizeof path, "%s/index.sqlite", s->path);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        assert_int_equal(index_open(s->fd, &ix, &err), -EPROTO);
        assert_non_null(strstr(err->what, "version 99"));
}

static void a_row_that_is_no_run_is_reported(void **state) {
        _cleanup_(index_freep) Index *ix = open_index(*state);
        _cleanup_message_ Run *run = NULL;
        _cleanup_error_ Error *err = NULL;
        char path[128];
        Scratch *s = *state;
        sqlite3 *db;

        put(ix, "abcdef", 1, LIVE, NULL);
        snprintf(path, sizeof path, "%s/index.sqlite", s->path);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "UPDATE run SET message = x'ffff'", NULL, NULL, NULL),
                         SQLITE_OK);
        sqlite3_close(db);
        assert_int_equal(index_find(ix, "abcdef", &run, &err), -EBADMSG);
        assert_non_null(strstr(err->what, "cannot read a run of 'index.sqlite'"));
}

int main(void) {
#define SCRATCH_TEST(t) cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)
        const struct CMUnitTest tests[] = {
                SCRATCH_TEST(a_row_is_inserted_then_replaced),
                SCRATCH_TEST(rows_survive_a_reopening),
                SCRATCH_TEST(the_list_is_newest_first_and_limited),
                SCRATCH_TEST(the_caller_can_end_a_list),
                SCRATCH_TEST(last_is_the_newest),
                SCRATCH_TEST(an_unambiguous_start_of_an_id_is_enough),
                SCRATCH_TEST(many_candidates_are_not_all_listed),
                SCRATCH_TEST(characters_of_patterns_and_of_sql_mean_nothing),
                SCRATCH_TEST(a_removed_run_is_gone),
                SCRATCH_TEST(two_handles_see_each_others_rows),
                SCRATCH_TEST(processes_may_make_and_fill_one_index_at_once),
                SCRATCH_TEST(a_damaged_index_is_refused_with_what_to_do),
                SCRATCH_TEST(an_index_of_a_later_version_is_refused),
                SCRATCH_TEST(a_row_that_is_no_run_is_reported),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
