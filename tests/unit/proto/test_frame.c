#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "proto/wire/frame.h"

typedef Carrel__V1__GuestStatus GuestStatus;

typedef struct Pair {
        int fds[2];
} Pair;

static void pair_open(Pair *p) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds), 0);
}

static void pair_done(Pair *p) {
        fd_close_many(p->fds, 2);
}

static size_t count_fds(void) {
        size_t n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void send_text(int fd, const char *text) {
        GuestStatus m = CARREL__V1__GUEST_STATUS__INIT;

        m.prompt = (char *)(uintptr_t)text;
        assert_int_equal(frame_send(fd, &m.base, NULL, 0, NULL), 0);
}

/* A raw header and its body, with fds beside the first byte. */
static void send_raw(int fd, const void *data, size_t size, const int *fds, size_t n) {
        assert_int_equal(frame_send_data(fd, data, size, fds, n), (ssize_t)size);
}

static void expect_refusal(Pair *p, size_t max_size, size_t max_fds, int code, const char *what) {
        _cleanup_(frame_reader_done) FrameReader r;
        _cleanup_(frame_done) Frame frame = {};
        _cleanup_error_ Error *err = NULL;

        frame_reader_init(&r, max_size, max_fds);
        assert_int_equal(frame_reader_read(&r, p->fds[0], &frame, &err), code);
        assert_non_null(err);
        assert_string_equal(err->what, what);
        error_freep(&err);
        assert_int_equal(frame_reader_read(&r, p->fds[0], &frame, &err), -EBADMSG);
        assert_string_equal(err->what, "cannot receive: an earlier frame was broken");
}

static void a_message_and_its_descriptors_arrive(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_message_ void *m = NULL;
        GuestStatus status = CARREL__V1__GUEST_STATUS__INIT;
        char prompt[] = "do it";
        int fds[2], sent[2];

        pair_open(&p);
        status.prompt = prompt;
        status.attempt = 7;
        assert_int_equal(pipe2(sent, 0), 0);
        assert_int_equal(frame_send(p.fds[1], &status.base, sent, 2, NULL), 0);
        fd_close_many(sent, 2);
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 4096, &m,
                                       fds, 2, NULL),
                         0);
        assert_string_equal(((GuestStatus *)m)->prompt, "do it");
        assert_int_equal(((GuestStatus *)m)->attempt, 7);
        assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
        assert_int_equal(write(fds[1], "x", 1), 1); /* it is the pipe */
        assert_int_equal(read(fds[0], prompt, 1), 1);
        fd_close_many(fds, 2);
}

static void slots_without_a_descriptor_are_marked(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_message_ void *m = NULL;
        int fds[2] = {0, 0};

        pair_open(&p);
        send_text(p.fds[1], "a");
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 4096, &m,
                                       fds, 2, NULL),
                         0);
        assert_int_equal(fds[0], -EBADF);
        assert_int_equal(fds[1], -EBADF);
}

static void a_reader_takes_no_byte_of_the_next_frame(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_message_ void *first = NULL, *second = NULL;
        int fds[1], sent = STDIN_FILENO;
        GuestStatus status = CARREL__V1__GUEST_STATUS__INIT;

        pair_open(&p);
        send_text(p.fds[1], "first");
        assert_int_equal(frame_send(p.fds[1], &status.base, &sent, 1, NULL), 0);
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 4096,
                                       &first, NULL, 0, NULL),
                         0);
        assert_string_equal(((GuestStatus *)first)->prompt, "first");
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 4096,
                                       &second, fds, 1, NULL),
                         0);
        assert_true(fds[0] >= 0);
        fd_close_many(fds, 1);
}

static void a_frame_may_come_byte_by_byte(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_(frame_reader_done) FrameReader r;
        _cleanup_(frame_done) Frame frame = {};
        const uint8_t bytes[] = {0, 0, 0, 3, 1, 0, 0, 0, 'a', 'b', 'c'};
        int sent = STDIN_FILENO;

        pair_open(&p);
        assert_int_equal(fd_set_nonblocking(p.fds[0], 1), 0);
        frame_reader_init(&r, 16, 1);
        for (size_t i = 0; i < sizeof bytes; i++) {
                assert_int_equal(frame_reader_read(&r, p.fds[0], &frame, NULL), -EAGAIN);
                send_raw(p.fds[1], bytes + i, 1, &sent, i == 0);
        }
        assert_int_equal(frame_reader_read(&r, p.fds[0], &frame, NULL), 1);
        assert_int_equal(frame.size, 3);
        assert_memory_equal(frame.data, "abc", 3);
        assert_int_equal(frame.n_fds, 1);
}

static void the_end_between_frames_is_no_error(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_(frame_reader_done) FrameReader r;
        _cleanup_(frame_done) Frame frame = {};
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        pair_open(&p);
        p.fds[1] = fd_close(p.fds[1]);
        frame_reader_init(&r, 16, 0);
        assert_int_equal(frame_reader_read(&r, p.fds[0], &frame, NULL), 0);
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 16, &m,
                                       NULL, 0, &err),
                         -ECONNRESET);
        assert_string_equal(err->what, "the peer closed the connection");
}

static void the_end_inside_a_frame_is_refused(void **state) {
        _cleanup_(pair_done) Pair p;

        pair_open(&p);
        send_raw(p.fds[1], "\0\0\0\5\0\0\0\0ab", 10, NULL, 0);
        p.fds[1] = fd_close(p.fds[1]);
        expect_refusal(&p, 16, 0, -EBADMSG, "broken frame: the stream ends inside of it");
}

static void a_long_frame_is_refused_by_its_header(void **state) {
        _cleanup_(pair_done) Pair p;

        pair_open(&p);
        send_raw(p.fds[1], "\0\0\0\21\0\0\0\0", 8, NULL, 0);
        expect_refusal(&p, 16, 0, -EMSGSIZE,
                       "frame of 17 bytes refused: at most 16 are accepted here");
}

static void reserved_bytes_must_be_zero(void **state) {
        for (size_t i = 5; i < FRAME_HEADER_SIZE; i++) {
                _cleanup_(pair_done) Pair p;
                uint8_t header[FRAME_HEADER_SIZE] = {};

                header[i] = 1;
                pair_open(&p);
                send_raw(p.fds[1], header, sizeof header, NULL, 0);
                expect_refusal(&p, 16, 0, -EBADMSG,
                               "broken frame: its reserved bytes are not zero");
        }
}

static void missing_descriptors_are_refused(void **state) {
        _cleanup_(pair_done) Pair p;

        pair_open(&p);
        send_raw(p.fds[1], "\0\0\0\0\2\0\0\0", 8, &p.fds[1], 1);
        expect_refusal(&p, 16, 4, -EBADMSG, "broken frame: it declares 2 descriptors, but 1 came");
}

static void undeclared_descriptors_are_closed(void **state) {
        _cleanup_(pair_done) Pair p;
        size_t before;

        pair_open(&p);
        before = count_fds();
        send_raw(p.fds[1], "\0\0\0\0\0\0\0\0", 8, p.fds, 2);
        expect_refusal(&p, 16, 4, -EBADMSG, "broken frame: it declares 0 descriptors, but 2 came");
        assert_int_equal(count_fds(), before);
}

static void descriptors_where_none_may_come_are_refused(void **state) {
        _cleanup_(pair_done) Pair p, late;
        size_t before;

        pair_open(&p);
        pair_open(&late);
        before = count_fds();
        send_raw(p.fds[1], "\0\0\0\0\1\0\0\0", 8, p.fds, 1);
        expect_refusal(&p, 16, 0, -EBADMSG, "broken frame: undeclared descriptors came");
        send_raw(late.fds[1], "\0\0\0\2\0\0\0\0", 8, NULL, 0);
        send_raw(late.fds[1], "ab", 2, late.fds, 1);
        expect_refusal(&late, 16, 4, -EBADMSG, "broken frame: undeclared descriptors came");
        assert_int_equal(count_fds(), before);
}

static void more_descriptors_than_accepted_are_refused(void **state) {
        _cleanup_(pair_done) Pair p;

        pair_open(&p);
        send_raw(p.fds[1], "\0\0\0\0\3\0\0\0", 8, (int[]){0, 0, 0}, 3);
        expect_refusal(&p, 16, 2, -EBADMSG,
                       "frame with 3 descriptors refused: at most 2 are accepted here");
}

static void a_plain_file_is_read_as_well(void **state) {
        _cleanup_(frame_reader_done) FrameReader r;
        _cleanup_(frame_done) Frame frame = {};
        int fd[2];

        assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
        assert_int_equal(fd_write_all(fd[1], "\0\0\0\2\0\0\0\0ok", 10), 0);
        fd[1] = fd_close(fd[1]);
        frame_reader_init(&r, 16, 4);
        assert_int_equal(frame_reader_read(&r, fd[0], &frame, NULL), 1);
        assert_memory_equal(frame.data, "ok", 2);
        frame_done(&frame);
        assert_int_equal(frame_reader_read(&r, fd[0], &frame, NULL), 0);
        fd_close_many(fd, 2);
}

static void bytes_that_are_no_such_message_are_refused(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_error_ Error *err = NULL;
        size_t before;
        int fds[1];
        void *m = NULL;

        pair_open(&p);
        before = count_fds();
        send_raw(p.fds[1], "\0\0\0\2\1\0\0\0\xff\xff", 10, p.fds, 1);
        assert_int_equal(frame_receive(p.fds[0], &carrel__v1__guest_status__descriptor, 64, &m, fds,
                                       1, &err),
                         -EBADMSG);
        assert_string_equal(err->what, "cannot receive a 'GuestStatus': these 2 bytes are none");
        assert_null(m);
        assert_int_equal(fds[0], -EBADF);
        assert_int_equal(count_fds(), before);
}

static void a_message_longer_than_any_peer_accepts_is_not_sent(void **state) {
        _cleanup_(pair_done) Pair p;
        _cleanup_free_ char *text = malloc(FRAME_MAX_SIZE + 1);
        _cleanup_error_ Error *err = NULL;
        GuestStatus m = CARREL__V1__GUEST_STATUS__INIT;

        memset(text, 'x', FRAME_MAX_SIZE);
        text[FRAME_MAX_SIZE] = 0;
        m.prompt = text;
        pair_open(&p);
        assert_int_equal(frame_send(p.fds[1], &m.base, NULL, 0, &err), -EMSGSIZE);
        assert_string_equal(err->what, "cannot send a 'GuestStatus': Message too long");
}

static void sending_to_a_closed_peer_raises_no_signal(void **state) {
        _cleanup_(pair_done) Pair p;

        pair_open(&p);
        p.fds[0] = fd_close(p.fds[0]);
        assert_int_equal(frame_send_data(p.fds[1], (const uint8_t *)"x", 1, NULL, 0), -EPIPE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_message_and_its_descriptors_arrive),
                cmocka_unit_test(slots_without_a_descriptor_are_marked),
                cmocka_unit_test(a_reader_takes_no_byte_of_the_next_frame),
                cmocka_unit_test(a_frame_may_come_byte_by_byte),
                cmocka_unit_test(the_end_between_frames_is_no_error),
                cmocka_unit_test(the_end_inside_a_frame_is_refused),
                cmocka_unit_test(a_long_frame_is_refused_by_its_header),
                cmocka_unit_test(reserved_bytes_must_be_zero),
                cmocka_unit_test(missing_descriptors_are_refused),
                cmocka_unit_test(undeclared_descriptors_are_closed),
                cmocka_unit_test(descriptors_where_none_may_come_are_refused),
                cmocka_unit_test(more_descriptors_than_accepted_are_refused),
                cmocka_unit_test(a_plain_file_is_read_as_well),
                cmocka_unit_test(bytes_that_are_no_such_message_are_refused),
                cmocka_unit_test(a_message_longer_than_any_peer_accepts_is_not_sent),
                cmocka_unit_test(sending_to_a_closed_peer_raises_no_signal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
