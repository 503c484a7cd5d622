#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "shim/output.h"

#define OUT CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT
#define ERR CARREL__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR

/* What the log's events said, and the log itself. */
typedef struct Fixture {
        char path[64];
        int run_fd;
        sd_event *event;
        Spool *spool;
        Output *output;
        unsigned events, limits;
        OutputSegment segments[4096];
        size_t n;
} Fixture;

static void fixture_emit(Event *event, void *data) {
        Fixture *f = data;

        if (event->body_case == CARREL__V1__EVENT__BODY_LIMIT_HIT) {
                f->limits++;
                return;
        }
        assert_int_equal(event->body_case, CARREL__V1__EVENT__BODY_OUTPUT_WRITTEN);
        f->events++;
        for (size_t i = 0; i < event->output_written->n_segments; i++)
                f->segments[f->n++] = *event->output_written->segments[i];
}

static int fixture_setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        int events;

        strcpy(f->path, "/tmp/carrel-test-output-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->run_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(spool_create(f->run_fd, &events, NULL), 0);
        assert_int_equal(spool_open(f->run_fd, events, &f->spool, NULL), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        assert_int_equal(output_new(f->event, f->spool, 100, fixture_emit, f, &f->output, NULL), 0);
        *state = f;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *f = *state;

        output_free(f->output);
        sd_event_unref(f->event);
        spool_free(f->spool);
        fd_close(f->run_fd);
        assert_int_equal(fd_remove_tree(AT_FDCWD, f->path, NULL), 0);
        free(f);
        return 0;
}

static void assert_log(const Fixture *f, const char *expected) {
        _cleanup_free_ char *log = NULL;

        assert_int_equal(file_read_at(f->run_fd, SPOOL_LOG, KIB, &log, NULL, NULL), 0);
        assert_string_equal(log, expected);
}

static void bytes_of_one_stream_become_one_segment(void **state) {
        Fixture *f = *state;

        output_write(f->output, 1, OUT, "ab", 2);
        output_write(f->output, 1, OUT, "cd", 2);
        assert_int_equal(f->events, 0); /* gathered, for a while */
        output_flush(f->output);
        assert_int_equal(f->events, 1);
        assert_int_equal(f->n, 1);
        assert_int_equal(f->segments[0].length, 4);
        assert_log(f, "abcd");
}

static void streams_and_processes_are_told_apart(void **state) {
        Fixture *f = *state;

        output_write(f->output, 1, OUT, "a", 1);
        output_write(f->output, 1, ERR, "b", 1);
        output_write(f->output, 2, ERR, "c", 1);
        output_flush(f->output);
        assert_int_equal(f->n, 3);
        assert_int_equal(f->segments[1].stream, ERR);
        assert_int_equal(f->segments[2].process, 2);
        assert_int_equal(f->segments[2].offset, 2);
        assert_log(f, "abc");
}

static void what_was_gathered_is_told_after_a_moment(void **state) {
        Fixture *f = *state;

        output_write(f->output, 1, OUT, "a", 1);
        assert_true(sd_event_run(f->event, 2000000) > 0);
        assert_int_equal(f->events, 1);
}

static void past_the_limit_bytes_are_dropped_and_told_once(void **state) {
        char text[64];
        Fixture *f = *state;
        uint64_t total = 0;

        memset(text, 'x', sizeof text);
        for (int i = 0; i < 5; i++)
                output_write(f->output, 1, OUT, text, sizeof text);
        output_flush(f->output);
        for (size_t i = 0; i < f->n; i++)
                total += f->segments[i].length;
        assert_int_equal(total, 100);
        assert_int_equal(f->spool->log_size, 100);
        assert_int_equal(f->limits, 1);
}

static void a_flood_of_segments_is_told_in_several_events(void **state) {
        Fixture *f = *state;

        for (int i = 0; i < 100; i++)
                output_write(f->output, 1, i % 2 ? OUT : ERR, "x", 1);
        output_flush(f->output);
        assert_int_equal(f->n, 100);
        assert_int_equal(f->spool->log_size, 100);
}

/* Each change costs the journal more than the byte costs the log. */
static void who_changes_streams_with_every_byte_has_a_smaller_log(void **state) {
        Fixture *f = *state;

        output_free(f->output);
        assert_int_equal(
                output_new(f->event, f->spool, 64 * KIB, fixture_emit, f, &f->output, NULL), 0);
        for (int i = 0; i < 4000; i++)
                output_write(f->output, 1, i % 2 ? OUT : ERR, "x", 1);
        output_flush(f->output);
        assert_int_equal(f->n, 2048);
        assert_int_equal(f->spool->log_size, 2048);
        assert_int_equal(f->limits, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(bytes_of_one_stream_become_one_segment,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(streams_and_processes_are_told_apart, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(what_was_gathered_is_told_after_a_moment,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(past_the_limit_bytes_are_dropped_and_told_once,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_flood_of_segments_is_told_in_several_events,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        who_changes_streams_with_every_byte_has_a_smaller_log, fixture_setup,
                        fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
