#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "shim/feedback.h"
#include "shim/spool.h"

typedef struct Scratch {
        char path[64];
        int fd;
        Spool *spool;
        SpoolReader reader;
} Scratch;

static int scratch_setup(void **state) {
        Scratch *s = calloc(1, sizeof *s);
        int events;

        strcpy(s->path, "/tmp/carrel-test-spool-XXXXXX");
        assert_non_null(mkdtemp(s->path));
        s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(spool_create(s->fd, &events, NULL), 0);
        assert_int_equal(spool_open(s->fd, events, &s->spool, NULL), 0);
        s->reader.fd = openat(s->fd, SPOOL_EVENTS, O_RDONLY | O_CLOEXEC);
        *state = s;
        return 0;
}

static int scratch_teardown(void **state) {
        Scratch *s = *state;

        spool_free(s->spool);
        fd_close(s->reader.fd);
        fd_close(s->fd);
        assert_int_equal(fd_remove_tree(AT_FDCWD, s->path, NULL), 0);
        free(s);
        return 0;
}

static void append_status(Spool *spool, char *text) {
        Carrel__V1__StatusReported body;
        Event event;

        carrel__v1__status_reported__init(&body);
        carrel__v1__event__init(&event);
        body.text = text;
        event.body_case = CARREL__V1__EVENT__BODY_STATUS_REPORTED;
        event.status_reported = &body;
        assert_int_equal(spool_append(spool, &event, NULL), 0);
}

static void what_is_written_is_read_in_order_and_numbered(void **state) {
        Scratch *s = *state;
        char one[] = "one", two[] = "two";
        _cleanup_message_ Event *a = NULL, *b = NULL, *c = NULL;

        append_status(s->spool, one);
        append_status(s->spool, two);
        assert_int_equal(spool_read(&s->reader, &a, NULL), 1);
        assert_int_equal(spool_read(&s->reader, &b, NULL), 1);
        assert_int_equal(spool_read(&s->reader, &c, NULL), 0);
        assert_string_equal(a->status_reported->text, "one");
        assert_true(a->shim_sequence == 1 && b->shim_sequence == 2);
}

static void a_torn_frame_is_no_event_until_it_is_whole(void **state) {
        Scratch *s = *state;
        char text[] = "later";
        _cleanup_free_ char *whole = NULL;
        _cleanup_close_ int fd = openat(s->fd, "torn", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        size_t size;

        append_status(s->spool, text);
        assert_int_equal(file_read_at(s->fd, SPOOL_EVENTS, MIB, &whole, &size, NULL), 0);
        for (size_t cut = 0; cut <= size; cut++) {
                SpoolReader r = {.fd = fd};
                _cleanup_message_ Event *event = NULL;

                assert_int_equal(ftruncate(fd, 0), 0);
                assert_int_equal(pwrite(fd, whole, cut, 0), cut);
                assert_int_equal(spool_read(&r, &event, NULL), cut == size ? 1 : 0);
        }
}

static void an_event_that_is_too_long_is_refused_unread(void **state) {
        Scratch *s = *state;
        _cleanup_error_ Error *e = NULL;
        Event *event = NULL;

        assert_int_equal(write(s->spool->events_fd, "\x7f\xff\xff\xff\0\0\0\0xx", 10), 10);
        assert_int_equal(spool_read(&s->reader, &event, &e), -EMSGSIZE);
        assert_non_null(strstr(e->what, "byte 0"));
}

static void garbage_is_refused(void **state) {
        Scratch *s = *state;
        Event *event = NULL;

        assert_int_equal(write(s->spool->events_fd, "\0\0\0\2\0\0\0\0\xff\xff", 10), 10);
        assert_int_equal(spool_read(&s->reader, &event, NULL), -EBADMSG);
}

static void the_lock_says_that_the_shim_lives(void **state) {
        Scratch *s = *state;

        assert_int_equal(flock(s->reader.fd, LOCK_EX | LOCK_NB), -1);
        s->spool->events_fd = fd_close(s->spool->events_fd);
        assert_int_equal(flock(s->reader.fd, LOCK_EX | LOCK_NB), 0);
}

static Feedback make_feedback(char *id, char *text) {
        Feedback f;

        carrel__v1__feedback__init(&f);
        f.id = id;
        f.text = text;
        f.source = text;
        return f;
}

static void feedback_is_delivered_once(void **state) {
        char id[] = "a", id2[] = "b", text[] = "words", *composed;
        Feedback first = make_feedback(id, text), second = make_feedback(id2, text);
        FeedbackQueue *q = feedback_queue_new();

        assert_int_equal(feedback_queue_add(q, &first, NULL), 1);
        assert_int_equal(feedback_queue_add(q, &first, NULL), 0);
        assert_int_equal(feedback_queue_pending(q), 1);
        composed = feedback_compose(q, "prompt");
        assert_string_equal(composed, "prompt\n\n--- feedback from words ---\nwords\n");
        free(composed);
        feedback_queue_mark_delivered(q);
        assert_int_equal(feedback_queue_add(q, &second, NULL), 1);
        assert_int_equal(feedback_queue_pending(q), 1);
        feedback_queue_free(q);
}

static void feedback_without_an_id_or_past_the_limits_is_refused(void **state) {
        char none[] = "", text[] = "t", id[16];
        Feedback f = make_feedback(none, text);
        FeedbackQueue *q = feedback_queue_new();
        _cleanup_error_ Error *e = NULL;
        _cleanup_free_ char *large = malloc(FEEDBACK_MAX_TEXT + 2);

        assert_int_equal(feedback_queue_add(q, &f, &e), -EINVAL);
        memset(large, 'x', FEEDBACK_MAX_TEXT + 1);
        large[FEEDBACK_MAX_TEXT + 1] = 0;
        f = make_feedback(text, text);
        f.text = large;
        assert_int_equal(feedback_queue_add(q, &f, NULL), -E2BIG);
        for (int i = 0; i < FEEDBACK_MAX_ITEMS; i++) {
                snprintf(id, sizeof id, "%d", i);
                f = make_feedback(id, text);
                assert_int_equal(feedback_queue_add(q, &f, NULL), 1);
        }
        f = make_feedback(text, text);
        assert_int_equal(feedback_queue_add(q, &f, NULL), -ENOBUFS);
        feedback_queue_free(q);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_written_is_read_in_order_and_numbered,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(a_torn_frame_is_no_event_until_it_is_whole,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(an_event_that_is_too_long_is_refused_unread,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(garbage_is_refused, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test_setup_teardown(the_lock_says_that_the_shim_lives, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test(feedback_is_delivered_once),
                cmocka_unit_test(feedback_without_an_id_or_past_the_limits_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
