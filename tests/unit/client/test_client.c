/* The client against a supervisor that is played by the test, on the other end of a socket pair. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/fd.h"
#include "client/client.h"
#include "client/embed.h"

static Client *client;
static int server = -EBADF;

static int connect_both(void **state) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -1;
        server = pair[1];
        return client_new_fd(pair[0], "test", &client, NULL);
}

static int close_both(void **state) {
        client = client_free(client);
        server = fd_close(server);
        return 0;
}

static uint64_t take_request(Carrel__V1__Request__BodyCase expected) {
        _cleanup_message_ Request *m = NULL;

        assert_int_equal(frame_receive(server, &carrel__v1__request__descriptor, 1 * MIB,
                                       (void **)&m, NULL, 0, NULL),
                         0);
        assert_int_equal(m->body_case, expected);
        return m->id;
}

static void answer(uint64_t id, Response *m, int fd) {
        m->id = id;
        assert_int_equal(frame_send(server, &m->base, &fd, fd >= 0, NULL), 0);
}

static void answer_hello(uint32_t version) {
        Carrel__V1__HelloResponse hello = CARREL__V1__HELLO_RESPONSE__INIT;
        Response m = CARREL__V1__RESPONSE__INIT;

        hello.version = version;
        m.last = true;
        m.body_case = CARREL__V1__RESPONSE__BODY_HELLO;
        m.hello = &hello;
        answer(take_request(CARREL__V1__REQUEST__BODY_HELLO), &m, -1);
}

static void answer_done(uint64_t id, int fd) {
        Carrel__V1__Done done = CARREL__V1__DONE__INIT;
        Response m = CARREL__V1__RESPONSE__INIT;

        m.last = true;
        m.body_case = CARREL__V1__RESPONSE__BODY_DONE;
        m.done = &done;
        answer(id, &m, fd);
}

static uint64_t send_list(void) {
        Carrel__V1__ListRequest list = CARREL__V1__LIST_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        uint64_t id;

        request.body_case = CARREL__V1__REQUEST__BODY_LIST;
        request.list = &list;
        assert_int_equal(client_send(client, &request, NULL, 0, &id, NULL), 0);
        return id;
}

static void replies_to_others_are_kept_in_order(void **state) {
        uint64_t first = send_list(), second = send_list();
        Reply reply;

        answer_hello(1);
        answer_done(first, -1);
        answer_done(first, -1);
        answer_done(second, -1);
        assert_int_equal(client_next_of(client, second, &reply, NULL), 0);
        assert_int_equal(reply.response->id, second);
        reply_done(&reply);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(client_next(client, false, &reply, NULL), 1);
                assert_int_equal(reply.response->id, first);
                reply_done(&reply);
        }
        assert_int_equal(client_next(client, false, &reply, NULL), 0);
}

static void an_error_reaches_the_caller_with_its_hint(void **state) {
        ErrorMessage failed = CARREL__V1__ERROR__INIT;
        Response m = CARREL__V1__RESPONSE__INIT;
        _cleanup_error_ Error *e = NULL;
        char what[] = "no run 'x'", hint[] = "carrel ps -a";
        uint64_t id = send_list();
        Reply reply;

        answer_hello(1);
        failed.code = ENOENT;
        failed.what = what;
        failed.hint = hint;
        m.error = &failed;
        m.last = true;
        answer(id, &m, -1);
        assert_int_equal(client_next_of(client, id, &reply, NULL), 0);
        assert_int_equal(reply_check(&reply, &e), -ENOENT);
        assert_string_equal(e->what, "no run 'x'");
        assert_string_equal(e->hint, "carrel ps -a");
        reply_done(&reply);
}

static void descriptors_belong_to_whoever_takes_them(void **state) {
        _cleanup_close_ int sent = open("/dev/null", O_RDONLY | O_CLOEXEC), taken = -EBADF;
        uint64_t id = send_list();
        Reply reply;

        answer_hello(1);
        answer_done(id, sent);
        assert_int_equal(client_next_of(client, id, &reply, NULL), 0);
        assert_int_equal(reply.n_fds, 1);
        taken = reply_take_fd(&reply, 0);
        assert_true(taken >= 0);
        assert_int_equal(reply_take_fd(&reply, 1), -EBADF);
        reply_done(&reply);
        assert_true(fcntl(taken, F_GETFD) & FD_CLOEXEC);
}

static void another_version_is_refused(void **state) {
        _cleanup_error_ Error *e = NULL;
        Reply reply;

        answer_hello(2);
        assert_int_equal(client_next(client, true, &reply, &e), -EPROTO);
        assert_non_null(strstr(e->what, "speaks protocol version 2, not 1"));
}

static void a_supervisor_that_has_gone_is_said_so(void **state) {
        _cleanup_error_ Error *e = NULL;
        Reply reply;

        server = fd_close(server);
        assert_int_equal(client_next(client, true, &reply, &e), -ECONNRESET);
        assert_string_equal(e->what, "the supervisor closed the connection");
        assert_non_null(strstr(e->hint, "carrel ps"));
}

static void a_named_socket_has_no_fallback(void **state) {
        const ClientOptions o = {.socket = "/nonexistent/control.sock", .name = "test"};
        _cleanup_error_ Error *e = NULL;
        Client *c = NULL;

        assert_int_equal(client_connect(&o, &c, &e), -ENOENT);
        assert_null(c);
        assert_non_null(strstr(e->what, "'/nonexistent/control.sock'"));
        assert_non_null(strstr(e->hint, "CARREL_SOCKET"));
}

static void a_missing_carreld_is_named(void **state) {
        _cleanup_error_ Error *e = NULL;
        int fd = -EBADF;
        pid_t pid;

        assert_int_equal(embed_start("/nonexistent/carreld", NULL, &fd, &pid, &e), -ENOENT);
        assert_int_equal(fd, -EBADF);
        assert_non_null(strstr(e->what, "'/nonexistent/carreld'"));
        assert_non_null(strstr(e->hint, "CARREL_CARRELD"));
}

#define CONNECTED(test) cmocka_unit_test_setup_teardown(test, connect_both, close_both)

int main(void) {
        const struct CMUnitTest tests[] = {
                CONNECTED(replies_to_others_are_kept_in_order),
                CONNECTED(an_error_reaches_the_caller_with_its_hint),
                CONNECTED(descriptors_belong_to_whoever_takes_them),
                CONNECTED(another_version_is_refused),
                CONNECTED(a_supervisor_that_has_gone_is_said_so),
                cmocka_unit_test(a_named_socket_has_no_fallback),
                cmocka_unit_test(a_missing_carreld_is_named),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
