/*
 * Loading a filter that notifies: with a listener, and where the kernel gives none
 *
 * Each test confines a child; its exit status names the first thing that was wrong.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "kernel/seccomp.h"

#define LOAD(member)                                                                               \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, member))
#define EXPECT(n, condition)                                                                       \
        do {                                                                                       \
                errno = 0;                                                                         \
                if (!(condition))                                                                  \
                        _exit(n);                                                                  \
        } while (0)

/* Notifies for mknod(2), which no test of these makes otherwise. */
static const struct sock_filter notifying[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mknod, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

/* A kernel of before 5.19: seccomp(2) knows no flag 1 << 5; @answer for any listener of it. */
static void take_away(uint32_t flags, int answer) {
        const struct sock_filter older[] = {
                LOAD(nr),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 3),
                LOAD(args[1]),
                BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)answer),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };

        EXPECT(90, seccomp_filter_load(older, sizeof older, NULL) == 0);
}

static void in_a_child(void (*run)(void)) {
        pid_t child = fork();
        int status = 0;

        if (child == 0) {
                alarm(10); /* a call that nobody answers would wait for ever */
                run();
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                fail_msg("the child ended with %#x", status);
}

static void call_and_be_refused(int n) {
        EXPECT(n, syscall(SYS_mknod, "/nowhere/at/all", 0, 0) < 0 && errno == EPERM);
}

static void load_plain(void) {
        EXPECT(1, seccomp_filter_load(notifying, sizeof notifying, NULL) == 0);
        call_and_be_refused(2);
}

static void without_a_listener_a_notification_is_eperm(void **state) {
        in_a_child(load_plain);
}

/* Answers one call as the shim does, in a process of its own. */
static _Noreturn void answer_one(int listener) {
        struct seccomp_notif_resp answer = {.error = -EBUSY};
        union {
                struct seccomp_notif n;
                char space[512];
        } q;

        memset(&q, 0, sizeof q);
        EXPECT(10, ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) == 0);
        EXPECT(11, q.n.data.nr == SYS_mknod && q.n.data.args[1] == 7);
        answer.id = q.n.id;
        EXPECT(12, ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0);
        _exit(0);
}

static void load_and_listen(void) {
        int listener = -EBADF, status = 0;
        pid_t answering;

        EXPECT(1, seccomp_filter_load_listener(notifying, sizeof notifying, &listener, NULL) == 0);
        EXPECT(2, listener >= 0);
        answering = fork();
        if (answering == 0)
                answer_one(listener);
        EXPECT(3, syscall(SYS_mknod, "", 7, 0) < 0 && errno == EBUSY);
        EXPECT(4, waitpid(answering, &status, 0) == answering && status == 0);
}

static void a_listener_hears_of_a_call_and_answers(void **state) {
        in_a_child(load_and_listen);
}

static void load_and_listen_without_killable(void) {
        take_away(1u << 5, EINVAL);
        load_and_listen();
}

static void a_kernel_that_knows_fewer_flags_gives_a_listener_too(void **state) {
        in_a_child(load_and_listen_without_killable);
}

static void load_without_listener(int answer) {
        int listener = 0;

        take_away(SECCOMP_FILTER_FLAG_NEW_LISTENER, answer);
        EXPECT(1, seccomp_filter_load_listener(notifying, sizeof notifying, &listener, NULL) == 0);
        EXPECT(2, listener == -EBADF);
        call_and_be_refused(3);
}

static void load_with_einval(void) {
        load_without_listener(EINVAL);
}

static void load_with_enosys(void) {
        load_without_listener(ENOSYS);
}

static void load_below_another(void) {
        int above = -EBADF, below = 0;

        EXPECT(1, seccomp_filter_load_listener(notifying, sizeof notifying, &above, NULL) == 0);
        EXPECT(2, above >= 0);
        EXPECT(3, seccomp_filter_load_listener(notifying, sizeof notifying, &below, NULL) == 0);
        EXPECT(4, below == -EBADF);
        call_and_be_refused(5); /* EPERM is stronger than a notification */
}

static void where_there_is_no_listener_calls_are_refused_all_the_same(void **state) {
        in_a_child(load_with_einval);
        in_a_child(load_with_enosys);
        in_a_child(load_below_another);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(without_a_listener_a_notification_is_eperm),
                cmocka_unit_test(a_listener_hears_of_a_call_and_answers),
                cmocka_unit_test(a_kernel_that_knows_fewer_flags_gives_a_listener_too),
                cmocka_unit_test(where_there_is_no_listener_calls_are_refused_all_the_same),
        };

        return cmocka_run_group_tests_name("seccomp", tests, NULL, NULL);
}
