/* Denied calls in words, and sets of argument values. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "policy/syscalls.h"

#define NESTING  "set 'nesting: yes' in the policy; profile 'build' has it"
#define NOTHING  "no policy changes this: do without it"
#define NAME_IT  "name it in 'syscalls.allow', and in no 'syscalls.deny', if the task needs it"
#define FAMILIES "sockets are AF_UNIX, AF_INET and AF_INET6 (TCP, UDP, ICMP), and NETLINK_ROUTE"

static const struct {
        unsigned number;
        uint64_t args[SYSCALL_ARGS];
        bool nesting;
        const char *call, *arguments, *rule, *hint;
} cases[] = {
        {SYS_socket,
         {AF_PACKET, SOCK_RAW, 0},
         false,
         "socket",
         "AF_PACKET, SOCK_RAW",
         FAMILIES,
         NOTHING},
        {SYS_socket,
         {AF_NETLINK, 3, 12},
         true,
         "socket",
         "AF_NETLINK, SOCK_RAW, protocol 12",
         FAMILIES,
         NOTHING},
        {SYS_socket,
         {AF_INET, SOCK_SEQPACKET | SOCK_CLOEXEC, 0},
         false,
         "socket",
         "AF_INET, SOCK_SEQPACKET",
         FAMILIES,
         NOTHING},
        {SYS_socket, {99, 1, 0}, false, "socket", "99", FAMILIES, NOTHING},
        /* The arguments are harmless: so it was the call. */
        {SYS_socket,
         {AF_UNIX, 1, 0},
         false,
         "socket",
         "AF_UNIX",
         "the policy does not allow 'socket', of group '@network'",
         NAME_IT},
        {SYS_clone,
         {CLONE_NEWUSER | CLONE_NEWNS | 17},
         false,
         "clone",
         "CLONE_NEWUSER|CLONE_NEWNS",
         "a process cannot be given namespaces of its own",
         NESTING},
        {SYS_unshare,
         {CLONE_NEWTIME},
         false,
         "unshare",
         "CLONE_NEWTIME",
         "a process cannot be given namespaces of its own",
         NESTING},
        {SYS_mount,
         {0},
         false,
         "mount",
         "",
         "the policy does not allow 'mount', of group '@mount'",
         NESTING},
        {SYS_mount,
         {0},
         true,
         "mount",
         "",
         "the policy does not allow 'mount', of group '@mount'",
         NAME_IT},
        {SYS_ioctl,
         {0, (UINT64_C(1) << 32) | TIOCSTI},
         false,
         "ioctl",
         "TIOCSTI",
         "it types into a terminal as if somebody had",
         NOTHING},
        {SYS_prctl,
         {PR_SET_MM},
         false,
         "prctl",
         "PR_SET_MM",
         "it forges what a process says it is",
         NOTHING},
        {SYS_setsockopt,
         {3, 0, 64},
         true,
         "setsockopt",
         "SOL_IP, option 64",
         "it loads a packet filter",
         NOTHING},
        {SYS_personality,
         {ADDR_NO_RANDOMIZE},
         false,
         "personality",
         "ADDR_NO_RANDOMIZE",
         "only what uname(2) says may be changed",
         NOTHING},
        {SYS_mknod,
         {0, S_IFBLK | 0600},
         false,
         "mknod",
         "S_IFBLK",
         "device nodes cannot be made",
         NOTHING},
        {SYS_kcmp,
         {0},
         false,
         "kcmp",
         "",
         "the policy does not allow 'kcmp', of group '@debug'",
         NAME_IT},
        {SYS_reboot, {0}, true, "reboot", "", "it ends the host's kernel", NOTHING},
};

static void each_denial_names_what_mattered_and_what_to_change(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                SyscallExplanation e;

                syscalls_explain(cases[i].number, cases[i].args, cases[i].nesting, &e);
                assert_string_equal(e.call, cases[i].call);
                assert_string_equal(e.arguments, cases[i].arguments);
                assert_string_equal(e.rule, cases[i].rule);
                assert_string_equal(e.hint, cases[i].hint);
        }
}

/* Nothing runs over, whatever is asked about. */
static void any_call_with_any_arguments_has_an_explanation(void **state) {
        for (unsigned number = 0; number < 1100; number++)
                for (unsigned fill = 0; fill < 3; fill++) {
                        uint64_t args[SYSCALL_ARGS];
                        SyscallExplanation e;

                        memset(args, fill == 0 ? 0 : fill == 1 ? 0xff : 0x5a, sizeof args);
                        syscalls_explain(number, args, number & 1, &e);
                        assert_true(*e.call && *e.rule && *e.hint);
                        assert_true(strlen(e.hint) + 1 < sizeof e.hint);
                        assert_true(strlen(e.rule) + 1 < sizeof e.rule);
                        assert_true(strlen(e.arguments) + 1 < sizeof e.arguments);
                }
}

typedef struct Left {
        SyscallBox boxes[256];
        size_t n;
} Left;

static void keep(const SyscallBox *box, void *data) {
        Left *left = data;

        assert_true(left->n < ELEMENTSOF(left->boxes));
        left->boxes[left->n++] = *box;
}

/* Holds what is left against single values, near the edges and elsewhere. */
static void what_is_left_is_the_whole_but_for_what_was_taken(void **state) {
        static const SyscallBox whole, taken[] = {
                                               {.mask = {UINT32_MAX}, .value = {0x5412}},
                                               {.mask = {UINT32_MAX}, .value = {0x541c}},
                                               {.mask = {0xff}, .value = {0x77}},
                                               {.mask = {UINT32_MAX, 1}, .value = {9, 1}},
                                       };
        Left left = {.n = 0};

        assert_int_equal(syscall_box_subtract(&whole, taken, ELEMENTSOF(taken), keep, &left), 1);
        for (uint64_t v = 0; v < 0x8000; v++)
                for (uint64_t w = 0; w < 2; w++) {
                        const uint64_t args[SYSCALL_ARGS] = {v, w};
                        bool out = v == 0x5412 || v == 0x541c || (v & 0xff) == 0x77 ||
                                   (v == 9 && w == 1);
                        size_t n = 0;

                        for (size_t i = 0; i < left.n; i++)
                                n += syscall_box_has(&left.boxes[i], args);
                        assert_int_equal(n, out ? 0 : 1); /* and they do not overlap */
                }
}

static void halves_together_are_the_whole(void **state) {
        static const SyscallBox whole, halves[] = {
                                               {.mask = {0, 4}, .value = {0, 0}},
                                               {.mask = {0, 4}, .value = {0, 4}},
                                       };

        assert_int_equal(syscall_box_subtract(&whole, halves, 2, NULL, NULL), 0);
        assert_int_equal(syscall_box_subtract(&whole, halves, 1, NULL, NULL), 1);
        assert_true(syscall_box_meets(&whole, &halves[0]));
        assert_false(syscall_box_meets(&halves[0], &halves[1]));
        assert_true(syscall_box_contains(&whole, &halves[0]));
        assert_false(syscall_box_contains(&halves[0], &whole));
}

static void masks_that_would_take_for_ever_are_given_up(void **state) {
        static const SyscallBox whole;
        SyscallBox taken[64];

        memset(taken, 0, sizeof taken);
        for (unsigned i = 0; i < 64; i++) { /* pairs of bits far apart: nearly nothing is decided */
                taken[i].mask[i % 6] = 1u << (i % 32);
                taken[i].mask[(i + 1) % 6] = 1u << ((i + 7) % 32);
        }
        assert_int_equal(syscall_box_subtract(&whole, taken, 64, NULL, NULL), -E2BIG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_denial_names_what_mattered_and_what_to_change),
                cmocka_unit_test(any_call_with_any_arguments_has_an_explanation),
                cmocka_unit_test(what_is_left_is_the_whole_but_for_what_was_taken),
                cmocka_unit_test(halves_together_are_the_whole),
                cmocka_unit_test(masks_that_would_take_for_ever_are_given_up),
        };

        return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
