/* The proof before anything runs, held on a host that is no workspace: it must find what does not
 * hold. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "init/init.h"
#include "kernel/capability.h"
#include "kernel/landlock.h"

static struct sock_filter allow_all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
/* As every policy's filter: neither clone3, nor TIOCSTI, nor AF_ALG. */
static struct sock_filter always[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 3, 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_ALG, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};
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

/* No privilege is missing for these: only the filter can have refused them. */
static void a_filter_with_a_hole_is_found(void **state) {
        static const struct {
                size_t jump; /* where "always" goes on to allow this one */
                const char *found;
        } holes[] = {
                {1, "it can call clone3, which its filter cannot read"},
                {4, "it can type into a terminal"},
                {7, "it can open a socket of the kernel's ciphers"},
        };

        for (size_t i = 0; i < ELEMENTSOF(holes); i++) {
                _cleanup_error_ Error *e = NULL;
                struct sock_filter filter[ELEMENTSOF(always)];

                memcpy(filter, always, sizeof always);
                filter[holes[i].jump].jt = (uint8_t)(ELEMENTSOF(always) - 2 - holes[i].jump);
                assert_int_equal(prove(filter, sizeof filter, true, &e), -EPROTO);
                assert_non_null(strstr(e->what, holes[i].found));
        }
}

static void a_lost_mount_flag_is_found(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(always, sizeof always, true, &e), -EPROTO);
        assert_non_null(strstr(e->what, "set-user-id programs work below '/"));
}

static void a_missing_filter_is_found(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(NULL, 0, false, &e), -EPROTO);
        assert_non_null(strstr(e->what, "it cannot be confined (filter: Invalid argument)"));
}

/* Whether a process that is confined as a harness is may write to /tmp, where everybody may. */
static bool writes_to_tmp(char **landlock_writable, size_t n) {
        Carrel__V1__InitConfigure config = CARREL__V1__INIT_CONFIGURE__INIT;
        Init in = {.config = &config, .root_fd = -EBADF};
        const char *step;
        int status;
        pid_t pid = fork();

        config.uid = config.gid = 1000;
        config.seccomp = (ProtobufCBinaryData){.len = sizeof allow_all, .data = (void *)allow_all};
        config.landlock_writable = landlock_writable;
        config.n_landlock_writable = n;
        if (pid == 0) {
                if (init_confine_probe(&in, &step) < 0)
                        _exit(2);
                _exit(open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600) < 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        return WEXITSTATUS(status) == 0;
}

static void a_harness_writes_only_where_its_landlock_wall_has_a_door(void **state) {
        char dev[] = "/dev", tmp[] = "/tmp", *places[] = {dev, tmp};

        if (landlock_version() == 0) {
                fprintf(stderr, "skipped: this kernel has no Landlock\n");
                skip();
        }
        assert_true(writes_to_tmp(NULL, 0));
        assert_true(writes_to_tmp(places, 2));
        assert_false(writes_to_tmp(places, 1));
}

static void a_prover_that_is_killed_has_proven_nothing(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(prove(kill_all, sizeof kill_all, false, &e), -EPROTO);
        assert_non_null(strstr(e->what, "was killed"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_filter_that_lets_everything_through_is_found),
                cmocka_unit_test(a_filter_with_a_hole_is_found),
                cmocka_unit_test(a_lost_mount_flag_is_found),
                cmocka_unit_test(a_missing_filter_is_found),
                cmocka_unit_test(a_harness_writes_only_where_its_landlock_wall_has_a_door),
                cmocka_unit_test(a_prover_that_is_killed_has_proven_nothing),
        };

        /* As init has done before it is asked to prove anything. */
        if (capability_drop_bounding(NULL) < 0)
                return 1;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
