/* Moving bytes between pipes and files, to their ends. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "carrel/relay.h"

typedef struct Pipes {
        int in[2], out[2];
        Relay relay;
} Pipes;

static void pipes_make(Pipes *p) {
        assert_int_equal(pipe2(p->in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(p->out, O_CLOEXEC), 0);
        p->relay = (Relay){.from = p->in[0], .to = p->out[1], .own_from = true, .own_to = true};
}

static void bytes_move_until_the_end(void **state) {
        char got[8] = {};
        Pipes p;

        pipes_make(&p);
        assert_int_equal(relay_move(&p.relay), 0);
        assert_int_equal(relay_poll(&p.relay).fd, p.in[0]);
        assert_int_equal(write(p.in[1], "hello", 5), 5);
        assert_int_equal(relay_move(&p.relay), 1);
        assert_int_equal(read(p.out[0], got, sizeof got), 5);
        assert_string_equal(got, "hello");
        close(p.in[1]);
        assert_int_equal(relay_move(&p.relay), 0);
        assert_false(relay_is_open(&p.relay));
        assert_int_equal(relay_poll(&p.relay).fd, -1);
        assert_int_equal(read(p.out[0], got, sizeof got), 0); /* its writer was closed, too */
        close(p.out[0]);
}

static void a_full_target_is_waited_for(void **state) {
        char block[4096] = {};
        Pipes p;
        int turns = 0;

        pipes_make(&p);
        assert_int_equal(fcntl(p.in[1], F_SETFL, O_NONBLOCK), 0);
        while (!p.relay.blocked && turns++ < 1000) {
                (void)!write(p.in[1], block, sizeof block);
                assert_true(relay_move(&p.relay) >= 0);
        }
        assert_true(p.relay.blocked);
        assert_int_equal(relay_poll(&p.relay).fd, p.out[1]);
        assert_int_equal(relay_poll(&p.relay).events, POLLOUT);
        while (p.relay.blocked && turns++ < 2000) {
                assert_true(read(p.out[0], block, sizeof block) > 0);
                assert_true(relay_move(&p.relay) >= 0);
        }
        assert_int_equal(relay_poll(&p.relay).fd, p.in[0]);
        relay_close(&p.relay);
        close(p.in[1]);
        close(p.out[0]);
}

static void a_reader_that_has_gone_ends_it(void **state) {
        Pipes p;

        signal(SIGPIPE, SIG_IGN);
        pipes_make(&p);
        close(p.out[0]);
        assert_int_equal(write(p.in[1], "x", 1), 1);
        assert_int_equal(relay_move(&p.relay), 0);
        assert_false(relay_is_open(&p.relay));
        assert_int_equal(write(p.in[1], "x", 1), -1); /* the command would get SIGPIPE */
        assert_int_equal(errno, EPIPE);
        close(p.in[1]);
}

static void what_cannot_be_spliced_is_copied(void **state) {
        char path[] = "/tmp/test-relay-XXXXXX", got[8] = {};
        int file = mkostemp(path, O_APPEND | O_CLOEXEC), in[2];
        Relay r;

        assert_true(file >= 0);
        unlink(path);
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        r = (Relay){.from = in[0], .to = file, .own_from = true, .own_to = false};
        assert_int_equal(write(in[1], "append", 6), 6);
        assert_int_equal(relay_move(&r), 1);
        assert_true(r.copying); /* splice(2) refuses O_APPEND with EINVAL */
        assert_int_equal(pread(file, got, sizeof got, 0), 6);
        assert_string_equal(got, "append");
        relay_close(&r);
        assert_true(fcntl(file, F_GETFD) >= 0); /* not ours to close */
        close(file);
        close(in[1]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bytes_move_until_the_end),
                cmocka_unit_test(a_full_target_is_waited_for),
                cmocka_unit_test(a_reader_that_has_gone_ends_it),
                cmocka_unit_test(what_cannot_be_spliced_is_copied),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
