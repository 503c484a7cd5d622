/* The proof before anything runs, held on a host that is no workspace: it must find what does not
 * hold. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "init/init.h"
#include "kernel/capability.h"

static struct sock_filter allow_all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
static struct sock_filter kill_all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};

static int prove(struct sock_filter *filter, size_t size, bool nesting, Error **reterr) {
        Carrel__V1__InitConfigure config = CARREL__V1__INIT_CONFIGURE__INIT;
        Init in = {.config = &config, .root_fd = -EBADF};

        config.uid = config.gid = 1000;
        config.seccomp = (ProtobufCBinaryData){.len = size, .data = (uint8_t *)filter};
        config.nesting = nesting;
        return init_prove(&in, reterr);
}

static void a_filter_that_lets_everything_through_is_found(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(allow_all, sizeof allow_all, false, &e), -EPROTO);
        assert_string_equal(
                e->what, "the workspace does not hold what its plan promises: it can make a user "
                         "namespace");
        assert_non_null(strstr(e->hint, "carrel doctor"));
}

static void a_lost_mount_flag_is_found(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(allow_all, sizeof allow_all, true, &e), -EPROTO);
        assert_non_null(strstr(e->what, "set-user-id programs work below '/"));
}

static void a_missing_filter_is_found(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(NULL, 0, false, &e), -EPROTO);
        assert_non_null(strstr(e->what, "it cannot be confined (filter: Invalid argument)"));
}

static void a_prover_that_is_killed_has_proven_nothing(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(kill_all, sizeof kill_all, false, &e), -EPROTO);
        assert_non_null(strstr(e->what, "was killed"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_filter_that_lets_everything_through_is_found),
                cmocka_unit_test(a_lost_mount_flag_is_found),
                cmocka_unit_test(a_missing_filter_is_found),
                cmocka_unit_test(a_prover_that_is_killed_has_proven_nothing),
        };

        /* As init has done before it is asked to prove anything. */
        if (capability_drop_bounding(NULL) < 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
