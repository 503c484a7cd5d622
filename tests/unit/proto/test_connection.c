#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "proto/wire/connection.h"

#define QUEUE_SIZE (64 * KIB)

/* A connection under test, and a plain blocking socket as its peer. */
typedef struct Fixture {
        sd_event *event;
        Connection *connection;
        int peer;
        unsigned frames, closed, drained;
        size_t last_fds;
        char *last_why;
        int verdict;  /* what the frame handler returns */
        bool answers; /* with 8 KiB */
} Fixture;

static Feedback fixture_message(char *text);

static int fixture_frame(Connection *c, Frame *frame, void *data) {
        static char answer[8 * KIB];
        Feedback m = fixture_message(memset(answer, 'x', sizeof answer - 1));
        Fixture *f = data;

        if (f->answers)
                assert_int_equal(connection_send(c, &m.base, NULL, 0), 0);
        f->frames++;
        f->last_fds = frame->n_fds;
        return f->verdict;
}

static void fixture_closed(Connection *c, const Error *why, void *data) {
        Fixture *f = data;

        f->closed++;
        f->last_why = why ? strdup(why->what) : NULL;
        f->connection = connection_free(c);
}

static void fixture_drained(Connection *c, void *data) {
        ((Fixture *)data)->drained++;
}

static int fixture_setup_turns(void **state, bool in_turn) {
        static const ConnectionHandlers handlers = {fixture_frame, fixture_closed, fixture_drained};
        const ConnectionLimits limits = {
                .max_frame = 1 * KIB, .max_fds = 1, .max_queue = QUEUE_SIZE, .in_turn = in_turn};
        Fixture *f = calloc(1, sizeof *f);
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_true(sd_event_new(&f->event) >= 0);
        f->peer = ends[1];
        assert_int_equal(
                connection_new(f->event, ends[0], &limits, &handlers, f, &f->connection, NULL), 0);
        *state = f;
        return 0;
}

static int fixture_setup(void **state) {
        return fixture_setup_turns(state, false);
}

static int fixture_setup_in_turn(void **state) {
        return fixture_setup_turns(state, true);
}

static int fixture_teardown(void **state) {
        Fixture *f = *state;

        connection_free(f->connection);
        fd_close(f->peer);
        sd_event_unref(f->event);
        free(f->last_why);
        free(f);
        return 0;
}

/* Runs the loop until nothing is left to do. */
static void fixture_run(Fixture *f) {
        while (sd_event_run(f->event, 10000) > 0)
                ;
}

static Feedback fixture_message(char *text) {
        Feedback m;

        carrel__v1__feedback__init(&m);
        m.text = text;
        return m;
}

static void a_frame_arrives_with_its_descriptors(void **state) {
        Fixture *f = *state;
        char text[] = "hello";
        Feedback m = fixture_message(text);
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_int_equal(frame_send(f->peer, &m.base, &null, 1, NULL), 0);
        fixture_run(f);
        assert_int_equal(f->frames, 1);
        assert_int_equal(f->last_fds, 1);
        assert_int_equal(f->closed, 0);
        close(null);
}

static void garbage_closes_this_connection(void **state) {
        Fixture *f = *state;

        assert_int_equal(write(f->peer, "\x7f\xff\xff\xff\0\0\0\0", 8), 8);
        fixture_run(f);
        assert_int_equal(f->closed, 1);
        assert_int_equal(f->frames, 0);
        assert_non_null(f->last_why);
        assert_null(f->connection);
}

static void the_peers_end_is_no_error(void **state) {
        Fixture *f = *state;

        f->peer = fd_close(f->peer);
        fixture_run(f);
        assert_int_equal(f->closed, 1);
        assert_null(f->last_why);
}

static void a_handler_that_refuses_closes_the_connection(void **state) {
        Fixture *f = *state;
        char text[] = "x";
        Feedback m = fixture_message(text);

        f->verdict = -EPROTO;
        assert_int_equal(frame_send(f->peer, &m.base, NULL, 0, NULL), 0);
        fixture_run(f);
        assert_int_equal(f->frames, 1);
        assert_int_equal(f->closed, 1);
}

static void a_peer_that_does_not_read_fills_a_queue_of_limited_size(void **state) {
        Fixture *f = *state;
        char *text = calloc(1, 8 * KIB + 1);
        Feedback m = fixture_message(text);
        size_t sent = 0;
        Frame frame;
        FrameReader reader;
        int r;

        memset(text, 'x', 8 * KIB);
        while ((r = connection_send(f->connection, &m.base, NULL, 0)) == 0)
                assert_true(++sent < 10000);
        assert_int_equal(r, -ENOBUFS);
        assert_false(connection_has_room(f->connection));
        assert_int_equal(f->closed, 0);

        /* Once it reads, all arrives, whole and in order, and there is room again. */
        frame_reader_init(&reader, 64 * KIB, 0);
        assert_int_equal(fd_set_nonblocking(f->peer, 1), 0);
        for (size_t got = 0; got < sent;) {
                r = frame_reader_read(&reader, f->peer, &frame, NULL);
                if (r == -EAGAIN) {
                        fixture_run(f);
                        continue;
                }
                assert_int_equal(r, 1);
                assert_in_range(frame.size, 8 * KIB, 8 * KIB + 16);
                frame_done(&frame);
                got++;
        }
        fixture_run(f);
        assert_int_equal(f->drained, 1);
        assert_true(connection_has_room(f->connection));
        frame_reader_done(&reader);
        free(text);
}

static void who_takes_no_answer_is_asked_nothing_more(void **state) {
        Fixture *f = *state;
        char text[] = "x", block[4096];
        Feedback m = fixture_message(text);
        unsigned sent = 0, before;

        f->answers = true;
        assert_int_equal(fd_set_nonblocking(f->peer, 1), 0);
        while (frame_send(f->peer, &m.base, NULL, 0, NULL) == 0) {
                assert_true(++sent < 100000);
                fixture_run(f);
        }
        assert_true(f->frames < sent);
        assert_int_equal(f->closed, 0); /* it would have been, for a queue that is too long */
        before = f->frames;
        while (read(f->peer, block, sizeof block) > 0)
                fixture_run(f);
        assert_true(f->frames > before);
}

/* What a peer said before it went is heard, even where it went without hearing us. */
static void last_words_are_read_after_a_failed_send(void **state) {
        Fixture *f = *state;
        char text[] = "the reason";
        Feedback body = fixture_message(text);

        assert_int_equal(frame_send(f->peer, &body.base, NULL, 0, NULL), 0);
        f->peer = fd_close(f->peer);
        assert_int_equal(connection_send(f->connection, &body.base, NULL, 0), 0);
        fixture_run(f);
        assert_int_equal(f->frames, 1);
        assert_int_equal(f->closed, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(last_words_are_read_after_a_failed_send,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_frame_arrives_with_its_descriptors, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(garbage_closes_this_connection, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(the_peers_end_is_no_error, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_handler_that_refuses_closes_the_connection,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        a_peer_that_does_not_read_fills_a_queue_of_limited_size, fixture_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(who_takes_no_answer_is_asked_nothing_more,
                                                fixture_setup_in_turn, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
