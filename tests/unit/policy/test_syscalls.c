/*
 * The system call filter, twice: interpreted over every number and chosen arguments, and loaded
 * into the kernel for a child that really calls
 */
#include <errno.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "bpf.h"
#include "kernel/seccomp.h"
#include "policy/concerns.h"
#include "policy/policy.h"

#define ALLOWED SECCOMP_RET_ALLOW
#define REFUSED SECCOMP_RET_USER_NOTIF /* EPERM, once somebody was told */
#define UNKNOWN (SECCOMP_RET_ERRNO | ENOSYS)
#define HIGH    UINT64_C(0x100000000)

static const char *const profiles[] = {PROFILES_DIR, NULL};

typedef struct Filter {
        struct sock_filter *code;
        size_t n;
} Filter;

static void filter_done(Filter *f) {
        free(f->code);
}

static Filter filter_of_profile(const char *name) {
        _cleanup_message_ Policy *policy = NULL;
        _cleanup_error_ Error *err = NULL;
        ProtobufCBinaryData data = {0};

        if (policy_load(profiles, NULL, name, &policy, &err) < 0 ||
            syscalls_compile(policy->syscalls, policy->nesting == CARREL__V1__CHOICE__CHOICE_YES,
                             &data, &err) < 0)
                fail_msg("%s", err->what);
        assert_int_equal(data.len % sizeof(struct sock_filter), 0);
        assert_true(data.len / sizeof(struct sock_filter) < BPF_MAXINSNS);
        return (Filter){.code = (void *)data.data, .n = data.len / sizeof(struct sock_filter)};
}

static uint32_t answer(const Filter *f, int number, uint64_t a0, uint64_t a1, uint64_t a2) {
        const struct seccomp_data data = {
                .nr = number,
                .arch = AUDIT_ARCH_X86_64,
                .args = {a0, a1, a2},
        };

        return bpf_run(f->code, f->n, &data);
}

static bool is_conditional(const char *call) {
        for (size_t i = 0; i < n_syscall_conditions; i++)
                if (strcmp(syscall_conditions[i].call, call) == 0)
                        return true;
        return strcmp(call, "clone3") == 0;
}

static bool group_has(const char *group, const char *call) {
        for (size_t i = 0; i < n_syscall_groups; i++)
                for (const char *const *c = syscall_groups[i].calls; *c; c++)
                        if (strcmp(syscall_groups[i].name, group) == 0 && strcmp(*c, call) == 0)
                                return true;
        return false;
}

static bool default_has(const char *call) {
        static const char *const groups[] = {"base",    "files", "process", "memory",
                                             "signals", "time",  "network", "sync",
                                             "ipc",     "aio",   "confine"};
        static const char *const calls[] = {"ptrace", "process_vm_readv", "process_vm_writev"};

        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                if (strcmp(calls[i], call) == 0)
                        return true;

        for (size_t i = 0; i < ELEMENTSOF(groups); i++)
                if (group_has(groups[i], call))
                        return true;
        return false;
}

static void every_number_is_answered_by_its_kind(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");
        unsigned allowed = 0, refused = 0, unknown = 0;

        for (int i = 0; i < 2000; i++) {
                _cleanup_free_ char *name = syscall_name((unsigned)i);
                uint32_t is = answer(&f, i, 0, 0, 0);

                if (name && is_conditional(name))
                        continue;
                if (is != (!name ? UNKNOWN : default_has(name) ? ALLOWED : REFUSED))
                        fail_msg("%d (%s) is answered %#x", i, name ?: "no name", is);
                allowed += is == ALLOWED;
                refused += is == REFUSED;
                unknown += is == UNKNOWN;
        }
        /* None of the three may be trivially empty. */
        assert_in_range(allowed, 240, 330);
        assert_in_range(refused, 60, 140);
        assert_true(unknown > 1500);
}

static void the_kernels_dangerous_calls_are_refused(void **state) {
        static const int calls[] = {
                SYS_unshare,
                SYS_setns,
                SYS_mount,
                SYS_umount2,
                SYS_pivot_root,
                SYS_chroot,
                SYS_open_tree,
                SYS_move_mount,
                SYS_fsopen,
                SYS_fsconfig,
                SYS_fsmount,
                SYS_mount_setattr,
                SYS_open_by_handle_at,
                SYS_bpf,
                SYS_perf_event_open,
                SYS_userfaultfd,
                SYS_io_uring_setup,
                SYS_io_uring_enter,
                SYS_io_uring_register,
                SYS_keyctl,
                SYS_add_key,
                SYS_request_key,
                SYS_kexec_load,
                SYS_kexec_file_load,
                SYS_init_module,
                SYS_finit_module,
                SYS_delete_module,
                SYS_reboot,
                SYS_swapon,
                SYS_swapoff,
                SYS_pidfd_getfd,
                SYS_process_madvise,
                SYS_kcmp,
                SYS_modify_ldt,
                SYS_vmsplice,
                SYS_syslog,
                SYS_fanotify_init,
                SYS_quotactl,
                SYS_name_to_handle_at,
                SYS_iopl,
                SYS_ioperm,
                SYS_acct,
                SYS_settimeofday,
                SYS_sethostname,
        };
        static const char *const names[] = {"default", "strict"};

        for (size_t k = 0; k < ELEMENTSOF(names); k++) {
                _cleanup_(filter_done) Filter f = filter_of_profile(names[k]);

                for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                        if (answer(&f, calls[i], 0, 0, 0) != REFUSED)
                                fail_msg("%s lets %d through", names[k], calls[i]);
        }
}

static void only_the_native_architecture_is_known(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");
        static const uint32_t foreign[] = {AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, 0};

        for (size_t i = 0; i < ELEMENTSOF(foreign); i++)
                for (int nr = 0; nr < 600; nr++) {
                        const struct seccomp_data data = {.nr = nr, .arch = foreign[i]};

                        assert_int_equal(bpf_run(f.code, f.n, &data), UNKNOWN);
                }
        for (int nr = 0; nr < 600; nr++) /* x32 */
                assert_int_equal(answer(&f, 0x40000000 | nr, 0, 0, 0), UNKNOWN);
        assert_int_equal(answer(&f, -1, 0, 0, 0), UNKNOWN);
}

static void sockets_are_local_ip_or_route_queries(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");

        for (uint64_t family = 0; family < 64; family++) {
                bool good = family == AF_UNIX || family == AF_INET || family == AF_INET6 ||
                            family == AF_NETLINK;

                assert_int_equal(answer(&f, SYS_socket, family, SOCK_STREAM, 0),
                                 good ? ALLOWED : REFUSED);
                assert_int_equal(answer(&f, SYS_socketpair, family, SOCK_STREAM, 0),
                                 family == AF_UNIX ? ALLOWED : REFUSED);
                /* The kernel looks at the low half alone. */
                assert_int_equal(answer(&f, SYS_socket, HIGH | family, SOCK_STREAM, 0),
                                 good ? ALLOWED : REFUSED);
        }
        for (uint64_t protocol = 1; protocol < 32; protocol++)
                assert_int_equal(answer(&f, SYS_socket, AF_NETLINK, SOCK_RAW, protocol), REFUSED);
}

/* A socket of a rare protocol would load its module, and of a rare type is one of another family.
 */
static void internet_sockets_are_of_every_day(void **state) {
        static const struct {
                uint64_t family, type, protocol;
        } good[] = {
                {AF_INET, SOCK_STREAM, 0},
                {AF_INET, SOCK_STREAM, IPPROTO_TCP},
                {AF_INET, SOCK_STREAM, IPPROTO_MPTCP},
                {AF_INET, SOCK_DGRAM, 0},
                {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
                {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
                {AF_INET6, SOCK_STREAM, 0},
                {AF_INET6, SOCK_STREAM, IPPROTO_TCP},
                {AF_INET6, SOCK_STREAM, IPPROTO_MPTCP},
                {AF_INET6, SOCK_DGRAM, 0},
                {AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
                {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6},
        };
        _cleanup_(filter_done) Filter f = filter_of_profile("build");
        size_t allowed = 0;

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(answer(&f, SYS_socket, good[i].family,
                                        good[i].type | SOCK_CLOEXEC | SOCK_NONBLOCK,
                                        good[i].protocol),
                                 ALLOWED);
        for (uint64_t type = 0; type < 16; type++)
                for (uint64_t protocol = 0; protocol < 300; protocol++) {
                        allowed += answer(&f, SYS_socket, AF_INET, type, protocol) == ALLOWED;
                        allowed += answer(&f, SYS_socket, AF_INET6, type, protocol) == ALLOWED;
                }
        assert_int_equal(allowed, ELEMENTSOF(good));
        assert_int_equal(answer(&f, SYS_socket, AF_UNIX, SOCK_SEQPACKET, 0), ALLOWED);
}

static void clone_makes_processes_and_threads_but_no_namespace(void **state) {
        static const uint64_t namespaces[] = {CLONE_NEWNS,  CLONE_NEWCGROUP, CLONE_NEWUTS,
                                              CLONE_NEWIPC, CLONE_NEWUSER,   CLONE_NEWPID,
                                              CLONE_NEWNET};
        const uint64_t thread =
                CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS;
        _cleanup_(filter_done) Filter f = filter_of_profile("default");

        assert_int_equal(answer(&f, SYS_clone, SIGCHLD, 0, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_clone, thread, 0, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_vfork, 0, 0, 0), ALLOWED);
        for (size_t i = 0; i < ELEMENTSOF(namespaces); i++) {
                assert_int_equal(answer(&f, SYS_clone, namespaces[i] | SIGCHLD, 0, 0), REFUSED);
                assert_int_equal(answer(&f, SYS_clone, HIGH | namespaces[i], 0, 0), REFUSED);
        }
        assert_int_equal(answer(&f, SYS_clone3, 0, 0, 0), UNKNOWN);
}

static void terminals_cannot_be_typed_into(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");

        assert_int_equal(answer(&f, SYS_ioctl, 0, TIOCSTI, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, TIOCLINUX, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, TIOCSETD, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, FS_IOC_FSSETXATTR, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, FS_IOC_FSGETXATTR, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, HIGH | TIOCSTI, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_ioctl, 0, (UINT64_MAX << 32) | TIOCLINUX, 0), REFUSED);
        for (uint64_t request = 0x5400; request < 0x5470; request++)
                if (request != TIOCSTI && request != TIOCLINUX && request != TIOCSETD)
                        assert_int_equal(answer(&f, SYS_ioctl, 0, request, 0), ALLOWED);
        /* Another call's second argument is nobody's request. */
        assert_int_equal(answer(&f, SYS_read, 0, TIOCSTI, 0), ALLOWED);
}

static void some_options_are_refused_and_their_neighbours_are_not(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("build");

        for (uint64_t option = 0; option < 80; option++)
                assert_int_equal(answer(&f, SYS_prctl, option, 0, 0),
                                 option == PR_SET_MM || option == PR_SCHED_CORE ? REFUSED
                                                                                : ALLOWED);
        for (uint64_t level = 0; level < 300; level++)
                for (uint64_t option = 0; option < 300; option++) {
                        bool bad = (level == IPPROTO_IP &&
                                    (option == 64 || option == 96 || option == 128)) ||
                                   (level == IPPROTO_IPV6 && option == 64);

                        assert_int_equal(answer(&f, SYS_setsockopt, 3, level, option),
                                         bad ? REFUSED : ALLOWED);
                }
}

static void personality_cannot_weaken_a_program(void **state) {
        static const uint64_t good[] = {0,          PER_LINUX32, UNAME26, UNAME26 | PER_LINUX32,
                                        0xffffffff, UINT64_MAX};
        static const uint64_t bad[] = {ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, MMAP_PAGE_ZERO,
                                       0xfffffffe, 1};
        _cleanup_(filter_done) Filter f = filter_of_profile("default");

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(answer(&f, SYS_personality, good[i], 0, 0), ALLOWED);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(answer(&f, SYS_personality, bad[i], 0, 0), REFUSED);
}

static void device_nodes_cannot_be_made(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");

        assert_int_equal(answer(&f, SYS_mknod, 0, S_IFIFO | 0600, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_mknodat, 0, 0, S_IFSOCK | 0600), ALLOWED);
        assert_int_equal(answer(&f, SYS_mknodat, 0, 0, S_IFREG | 0600), ALLOWED);
        assert_int_equal(answer(&f, SYS_mknod, 0, S_IFCHR, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_mknodat, 0, 0, S_IFCHR), REFUSED);
        assert_int_equal(answer(&f, SYS_mknodat, 0, 0, S_IFBLK | 0600), REFUSED);
}

static void debuggers_work_and_the_rest_of_debug_is_for_build(void **state) {
        static const int basic[] = {SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev},
                         rest[] = {SYS_kcmp, SYS_pidfd_getfd, SYS_process_madvise,
                                   SYS_process_mrelease};
        _cleanup_(filter_done) Filter plain = filter_of_profile("default"),
                                      build = filter_of_profile("build"),
                                      strict = filter_of_profile("strict");

        for (size_t i = 0; i < ELEMENTSOF(basic); i++) {
                assert_int_equal(answer(&plain, basic[i], 0, 0, 0), ALLOWED);
                assert_int_equal(answer(&build, basic[i], 0, 0, 0), ALLOWED);
                assert_int_equal(answer(&strict, basic[i], 0, 0, 0), REFUSED);
        }
        for (size_t i = 0; i < ELEMENTSOF(rest); i++) {
                assert_int_equal(answer(&plain, rest[i], 0, 0, 0), REFUSED);
                assert_int_equal(answer(&build, rest[i], 0, 0, 0), ALLOWED);
                assert_int_equal(answer(&strict, rest[i], 0, 0, 0), REFUSED);
        }
}

static void nesting_allows_namespaces_and_nothing_beside(void **state) {
        static const int calls[] = {SYS_unshare,   SYS_setns,      SYS_mount,
                                    SYS_umount2,   SYS_pivot_root, SYS_chroot,
                                    SYS_fsopen,    SYS_fsmount,    SYS_mount_setattr,
                                    SYS_open_tree, SYS_move_mount, SYS_sethostname};
        static const int never[] = {SYS_bpf,         SYS_keyctl,         SYS_io_uring_setup,
                                    SYS_init_module, SYS_kexec_load,     SYS_open_by_handle_at,
                                    SYS_userfaultfd, SYS_perf_event_open};
        _cleanup_(filter_done) Filter build = filter_of_profile("build");

        for (size_t i = 0; i < ELEMENTSOF(calls); i++)
                assert_int_equal(answer(&build, calls[i], 0, 0, 0), ALLOWED);
        for (size_t i = 0; i < ELEMENTSOF(never); i++)
                assert_int_equal(answer(&build, never[i], 0, 0, 0), REFUSED);
        assert_int_equal(answer(&build, SYS_clone, CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, 0, 0),
                         ALLOWED);
        assert_int_equal(answer(&build, SYS_clone3, 0, 0, 0), UNKNOWN);
        assert_int_equal(answer(&build, SYS_socket, AF_PACKET, SOCK_RAW, 0), REFUSED);
        assert_int_equal(answer(&build, SYS_socket, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER),
                         REFUSED);
        assert_int_equal(answer(&build, SYS_ioctl, 0, TIOCSTI, 0), REFUSED);
}

static void naming_unshare_makes_no_namespace(void **state) {
        char group[] = "@namespaces", *allow[] = {group};
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        ProtobufCBinaryData data = {0};
        Filter f;

        s.allow = allow;
        s.n_allow = 1;
        assert_int_equal(syscalls_compile(&s, false, &data, NULL), 0);
        f = (Filter){.code = (void *)data.data, .n = data.len / sizeof *f.code};
        assert_int_equal(answer(&f, SYS_unshare, CLONE_FS | CLONE_FILES, 0, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_unshare, CLONE_NEWUSER, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_unshare, CLONE_FS | CLONE_NEWNS, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_unshare, CLONE_NEWTIME, 0, 0), REFUSED);
        filter_done(&f);
}

static void what_is_denied_stays_denied_with_nesting(void **state) {
        char mount[] = "@mount", *deny[] = {mount};
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        ProtobufCBinaryData data = {0};
        Filter f;

        s.deny = deny;
        s.n_deny = 1;
        assert_int_equal(syscalls_compile(&s, true, &data, NULL), 0);
        f = (Filter){.code = (void *)data.data, .n = data.len / sizeof *f.code};
        assert_int_equal(answer(&f, SYS_mount, 0, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_unshare, 0, 0, 0), ALLOWED);
        filter_done(&f);
}

static void the_floor_refuses_what_no_policy_can_allow_and_nothing_else(void **state) {
        static const int floor_calls[] = {
                SYS_init_module,     SYS_finit_module, SYS_delete_module, SYS_kexec_load,
                SYS_kexec_file_load, SYS_reboot,       SYS_iopl,          SYS_ioperm,
                SYS_swapon,          SYS_swapoff,      SYS_acct,          SYS_settimeofday,
                SYS_clock_settime,   SYS_adjtimex,     SYS_clock_adjtime};
        ProtobufCBinaryData data = {0};
        unsigned refused = 0;
        Filter f;

        assert_int_equal(syscalls_floor_compile(&data, NULL), 0);
        f = (Filter){.code = (void *)data.data, .n = data.len / sizeof *f.code};
        for (size_t i = 0; i < ELEMENTSOF(floor_calls); i++)
                assert_int_equal(answer(&f, floor_calls[i], 0, 0, 0), SECCOMP_RET_ERRNO | EPERM);
        for (int i = 0; i < 2000; i++)
                refused += answer(&f, i, 0, 0, 0) != ALLOWED;
        assert_int_equal(refused, ELEMENTSOF(floor_calls) + 3); /* three that no kernel has now */
        for (int i = 0; i < 600; i++) {
                const struct seccomp_data foreign = {.nr = i, .arch = AUDIT_ARCH_I386};

                assert_int_equal(bpf_run(f.code, f.n, &foreign), ALLOWED);
        }
        filter_done(&f);
}

static void check_list(const char *allow, const char *deny, const char *what, const char *field) {
        char *allow_word = strdup(allow ?: ""), *deny_word = strdup(deny ?: "");
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        _cleanup_error_ Error *e = NULL;

        s.allow = &allow_word;
        s.n_allow = allow != NULL;
        s.deny = &deny_word;
        s.n_deny = deny != NULL;
        assert_int_equal(syscalls_check(&s, &e), -EINVAL);
        assert_string_equal(e->what, what);
        assert_string_equal(e->field, field);
        assert_non_null(e->hint);
        free(allow_word);
        free(deny_word);
}

static void the_floor_and_what_starts_a_program_are_no_policys_to_change(void **state) {
        check_list("init_module", NULL,
                   "'init_module' cannot be allowed: it changes which code the host's kernel runs",
                   "syscalls.allow[0]");
        check_list("@reboot", NULL, "'@reboot' cannot be allowed: it ends the host's kernel",
                   "syscalls.allow[0]");
        check_list("clock_settime", NULL,
                   "'clock_settime' cannot be allowed: the host has one clock for everybody",
                   "syscalls.allow[0]");
        check_list(NULL, "execve",
                   "'execve' cannot be denied: without 'execve' no program can be started",
                   "syscalls.deny[0]");
        check_list(NULL, "@network",
                   "'@network' cannot be denied: without 'sendmsg' no program can be started",
                   "syscalls.deny[0]");
}

static void a_policy_that_starts_nothing_is_refused(void **state) {
        char base[] = "@base", files[] = "@files", *allow[] = {base, files};
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        _cleanup_error_ Error *e = NULL;

        s.allow = allow;
        s.n_allow = 2;
        assert_int_equal(syscalls_check_whole(&s, &e), -EINVAL);
        assert_non_null(strstr(e->what, "does not allow 'execve'"));
        assert_string_equal(e->field, "syscalls.allow");
}

static void strict_takes_away_and_keeps_what_programs_need(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("strict");

        assert_int_equal(answer(&f, SYS_shmget, 0, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_io_setup, 0, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_execve, 0, 0, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_socket, AF_UNIX, SOCK_STREAM, 0), ALLOWED);
}

static void deny_wins_over_allow(void **state) {
        char files[] = "@files", open[] = "openat", *allow[] = {files, open}, *deny[] = {open};
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        _cleanup_(filter_done) Filter f = {0};
        ProtobufCBinaryData data = {0};

        s.allow = allow;
        s.n_allow = 2;
        s.deny = deny;
        s.n_deny = 1;
        assert_int_equal(syscalls_compile(&s, false, &data, NULL), 0);
        f = (Filter){.code = (void *)data.data, .n = data.len / sizeof *f.code};
        assert_int_equal(answer(&f, SYS_openat, 0, 0, 0), REFUSED);
        assert_int_equal(answer(&f, SYS_read, 0, 0, 0), ALLOWED);
        assert_int_equal(answer(&f, SYS_fork, 0, 0, 0), REFUSED);
        /* A condition lets nothing through that the policy does not allow. */
        assert_int_equal(answer(&f, SYS_socket, AF_UNIX, 0, 0), REFUSED);
}

/* Compiles enough other filters that none of before is remembered. */
static void forget_filters(void) {
        static const char *const calls[] = {"read", "write", "open", "close", "stat", "lstat",
                                            "poll", "lseek", "mmap", "brk",   "pipe", "dup"};

        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                _cleanup_free_ char *call = strdup(calls[i]);
                Syscalls s = CARREL__V1__SYSCALLS__INIT;
                ProtobufCBinaryData data = {0};

                s.allow = &call;
                s.n_allow = 1;
                assert_int_equal(syscalls_compile(&s, false, &data, NULL), 0);
                free(data.data);
        }
}

static void the_same_names_give_the_same_bytes(void **state) {
        _cleanup_(filter_done) Filter a = filter_of_profile("default"), again = {0}, built = {0};

        again = filter_of_profile("default");
        forget_filters();
        built = filter_of_profile("default");
        assert_int_equal(a.n, again.n);
        assert_memory_equal(a.code, again.code, a.n * sizeof *a.code);
        assert_int_equal(a.n, built.n);
        assert_memory_equal(a.code, built.code, a.n * sizeof *a.code);
}

static void every_call_stands_in_a_group(void **state) {
        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++) {
                _cleanup_free_ char *name = syscall_name(i);

                if (name && !syscall_group_of(name))
                        fail_msg("'%s' is in no group", name);
        }
}

/* The prologue compares whole values, rows of a call stand together, all names exist. */
static void denials_are_as_the_prologue_wants_them(void **state) {
        for (size_t i = 0; i < n_syscall_denials; i++) {
                const SyscallDenial *d = &syscall_denials[i];

                assert_true(syscall_number(d->call) >= 0);
                for (unsigned k = 0; k < SYSCALL_ARGS; k++)
                        assert_true(d->box.mask[k] == 0 || d->box.mask[k] == UINT32_MAX);
                for (size_t k = i + 1; k < n_syscall_denials; k++)
                        if (strcmp(d->call, syscall_denials[k].call) == 0)
                                assert_string_equal(d->call, syscall_denials[i + 1].call);
        }
        for (size_t i = 0; i < n_syscall_conditions; i++)
                assert_true(syscall_number(syscall_conditions[i].call) >= 0);
        for (size_t i = 0; i < n_syscall_required; i++)
                assert_true(syscall_number(syscall_required[i]) >= 0);
}

static void every_name_of_a_group_is_a_system_call(void **state) {
        for (size_t i = 0; i < n_syscall_groups; i++)
                for (const char *const *c = syscall_groups[i].calls; *c; c++)
                        if (syscall_number(*c) < 0)
                                fail_msg("'%s' of group '%s' is not known", *c,
                                         syscall_groups[i].name);
}

static void no_call_stands_in_two_groups(void **state) {
        for (size_t i = 0; i < n_syscall_groups; i++)
                for (const char *const *c = syscall_groups[i].calls; *c; c++)
                        for (size_t k = i + 1; k < n_syscall_groups; k++)
                                if (group_has(syscall_groups[k].name, *c))
                                        fail_msg("'%s' stands twice", *c);
}

#define EXPECT(n, condition)                                                                       \
        do {                                                                                       \
                errno = 0;                                                                         \
                if (!(condition))                                                                  \
                        _exit(n);                                                                  \
        } while (0)

/* System calls as the C library and as an attacker make them; the exit status names the first wrong
 * one. */
__attribute__((noreturn)) static void call_under_the_filter(void) {
        int pair[2], status = 0;
        pid_t child;

        EXPECT(1, syscall(SYS_unshare, CLONE_NEWUSER) < 0 && errno == EPERM);
        EXPECT(2, syscall(SYS_clone3, NULL, 0) < 0 && errno == ENOSYS);
        EXPECT(3, syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0) < 0 && errno == EPERM);
        EXPECT(4, socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
        EXPECT(5, socket(AF_NETLINK, SOCK_RAW, 16) < 0 && errno == EPERM);
        EXPECT(6, socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
        EXPECT(7, socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        EXPECT(8, ioctl(pair[0], TIOCSTI, "x") < 0 && errno == EPERM);
        EXPECT(9, ioctl(pair[0], FIONREAD, &status) == 0);
        EXPECT(10, personality(ADDR_NO_RANDOMIZE) < 0 && errno == EPERM);
        EXPECT(11, personality(0xffffffff) >= 0);
        EXPECT(12, syscall(600) < 0 && errno == ENOSYS);
        EXPECT(13, syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM);
        EXPECT(14, syscall(0x40000000 | SYS_getpid) < 0 && errno == ENOSYS);
        EXPECT(15, syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) < 0 && errno == EPERM);
        child = fork();
        if (child == 0)
                execl("/bin/sh", "sh", "-c", "exec true | cat", (char *)NULL);
        EXPECT(16, child > 0 && waitpid(child, &status, 0) == child && status == 0);
        _exit(0);
}

static void the_kernel_answers_as_the_interpreter(void **state) {
        _cleanup_(filter_done) Filter f = filter_of_profile("default");
        int status = 0;
        pid_t child = fork();

        if (child == 0) {
                if (seccomp_filter_load(f.code, f.n * sizeof *f.code, NULL) < 0)
                        _exit(100);
                call_under_the_filter();
        }
        assert_true(child > 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_mistyped_name_is_refused_with_the_one_meant(void **state) {
        char group[] = "@file", call[] = "opnat", clone3[] = "clone3", *allow[] = {group};
        Syscalls s = CARREL__V1__SYSCALLS__INIT;
        _cleanup_error_ Error *a = NULL, *b = NULL, *c = NULL;

        s.allow = allow;
        s.n_allow = 1;
        assert_int_equal(syscalls_check(&s, &a), -EINVAL);
        assert_string_equal(a->what, "there is no group of system calls '@file'");
        assert_string_equal(a->hint, "did you mean '@files'?");
        assert_string_equal(a->field, "syscalls.allow[0]");

        allow[0] = call;
        assert_int_equal(syscalls_check(&s, &b), -EINVAL);
        assert_string_equal(b->what, "there is no system call 'opnat' on x86-64");
        assert_string_equal(b->hint, "did you mean 'openat'?");

        allow[0] = clone3;
        assert_int_equal(syscalls_check(&s, &c), -EINVAL);
        assert_non_null(strstr(c->what, "'clone3' cannot be allowed"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_number_is_answered_by_its_kind),
                cmocka_unit_test(the_kernels_dangerous_calls_are_refused),
                cmocka_unit_test(only_the_native_architecture_is_known),
                cmocka_unit_test(sockets_are_local_ip_or_route_queries),
                cmocka_unit_test(internet_sockets_are_of_every_day),
                cmocka_unit_test(clone_makes_processes_and_threads_but_no_namespace),
                cmocka_unit_test(terminals_cannot_be_typed_into),
                cmocka_unit_test(some_options_are_refused_and_their_neighbours_are_not),
                cmocka_unit_test(personality_cannot_weaken_a_program),
                cmocka_unit_test(device_nodes_cannot_be_made),
                cmocka_unit_test(debuggers_work_and_the_rest_of_debug_is_for_build),
                cmocka_unit_test(nesting_allows_namespaces_and_nothing_beside),
                cmocka_unit_test(naming_unshare_makes_no_namespace),
                cmocka_unit_test(what_is_denied_stays_denied_with_nesting),
                cmocka_unit_test(the_floor_refuses_what_no_policy_can_allow_and_nothing_else),
                cmocka_unit_test(the_floor_and_what_starts_a_program_are_no_policys_to_change),
                cmocka_unit_test(a_policy_that_starts_nothing_is_refused),
                cmocka_unit_test(strict_takes_away_and_keeps_what_programs_need),
                cmocka_unit_test(deny_wins_over_allow),
                cmocka_unit_test(the_same_names_give_the_same_bytes),
                cmocka_unit_test(every_call_stands_in_a_group),
                cmocka_unit_test(denials_are_as_the_prologue_wants_them),
                cmocka_unit_test(every_name_of_a_group_is_a_system_call),
                cmocka_unit_test(no_call_stands_in_two_groups),
                cmocka_unit_test(the_kernel_answers_as_the_interpreter),
                cmocka_unit_test(a_mistyped_name_is_refused_with_the_one_meant),
        };

        return cmocka_run_group_tests_name("syscalls", tests, NULL, NULL);
}
