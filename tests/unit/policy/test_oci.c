/*
 * Profiles of container engines: what is taken over, what is left out and why, and there and back
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "policy/oci.h"
#include "policy/policy.h"
#include "proto/text/text.h"

static const char *const profiles[] = {PROFILES_DIR, NULL};

static char warnings[64 * 1024]; /* each on a line of its own */

static void note(const char *call, const char *why, void *data) {
        size_t used = strlen(warnings);

        snprintf(warnings + used, sizeof warnings - used, "\n%s: %s", call, why);
}

static bool warned(const char *call, const char *why) {
        _cleanup_free_ char *line = NULL;

        assert_true(asprintf(&line, "\n%s: %s", call, why) > 0);
        return strstr(warnings, line);
}

static Policy *profile_named(const char *name) {
        _cleanup_error_ Error *e = NULL;
        Policy *policy = NULL;

        if (policy_load(profiles, NULL, name, &policy, &e) < 0)
                fail_msg("%s", e->what);
        return policy;
}

static OciSeccomp *parse(const char *text) {
        _cleanup_error_ Error *e = NULL;
        void *m = NULL;

        if (text_parse_known("profile.json", text, strlen(text),
                             &carrel__v1__oci_seccomp__descriptor, &m, &e) < 0)
                fail_msg("%s", e->what);
        return m;
}

/* What comes of the profile once it is resolved, as a supervisor would. */
static SyscallSet import(const OciSeccomp *profile) {
        _cleanup_message_ Policy *base = profile_named("default"), *policy = NULL, *whole = NULL;
        _cleanup_error_ Error *e = NULL;
        SyscallSet set;

        warnings[0] = 0;
        if (oci_import(profile, base, note, NULL, &policy, &e) < 0 ||
            policy_resolve(profiles, policy, &whole, &e) < 0 || policy_check(whole, &e) < 0)
                fail_msg("%s", e->what);
        syscalls_resolve(whole->syscalls, false, &set);
        return set;
}

static SyscallSet import_text(const char *rules) {
        _cleanup_message_ OciSeccomp *profile = NULL;
        _cleanup_free_ char *text = NULL;

        assert_true(asprintf(&text, "{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [%s]}",
                             rules) > 0);
        profile = parse(text);
        return import(profile);
}

static bool has(const SyscallSet *set, const char *call) {
        int number = syscall_number(call);

        assert_true(number >= 0);
        return set->has[number];
}

static void an_engines_profile_is_taken_over(void **state) {
        static const char *const in[] = {"read",        "ioctl",        "socket",
                                         "personality", "clone",        "ptrace",
                                         "vmsplice",    "memfd_secret", "mknodat"};
        static const char *const out[] = {
                "mount",  "bpf",   "unshare", "reboot",   "mq_open",           "fchmodat2",
                "shmget", "lseek", "clone3",  "io_setup", "sched_setscheduler"};
        _cleanup_message_ OciSeccomp *profile = NULL;
        _cleanup_free_ char *text = NULL;
        SyscallSet set;

        assert_int_equal(
                file_read_at(AT_FDCWD, DATA_DIR "/oci/engine.json", MIB, &text, NULL, NULL), 0);
        profile = parse(text);
        set = import(profile);
        for (size_t i = 0; i < ELEMENTSOF(in); i++)
                if (!has(&set, in[i]))
                        fail_msg("'%s' was left out:\n%s", in[i], warnings);
        for (size_t i = 0; i < ELEMENTSOF(out); i++)
                if (strcmp(out[i], "clone3") != 0 && has(&set, out[i]))
                        fail_msg("'%s' was taken over", out[i]);
        assert_true(warned("reboot", "it ends the host's kernel"));
        assert_true(warned("settimeofday", "the host has one clock"));
        assert_true(warned("sched_setscheduler",
                           "it compares an argument that carrel has no condition for"));
        assert_true(warned("mq_open", "it compares an argument by other than equality"));
        assert_true(warned("shmget", "its action is neither to allow nor to refuse"));
        assert_true(warned("lseek", "it compares an argument that carrel has no condition for"));
        assert_true(warned("statmount", "this carrel does not know it"));
        assert_false(warned("ioctl", "")); /* what it refuses, carrel refuses too */
        assert_false(warned("chown32", ""));
        assert_false(warned("mount", "")); /* for a capability that no harness has */
}

static void export_and_import_give_the_same_calls(void **state) {
        static const char *const names[] = {"default", "strict", "build"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_message_ Policy *policy = profile_named(names[i]);
                _cleanup_message_ OciSeccomp *made = NULL, *read = NULL;
                _cleanup_free_ char *text = NULL;
                SyscallSet before, after;

                assert_int_equal(oci_export(policy, &made, NULL), 0);
                assert_int_equal(text_print(&made->base, TEXT_FORMAT_JSON, &text, NULL), 0);
                read = parse(text);
                after = import(read);
                assert_string_equal(warnings, "");
                syscalls_resolve(policy->syscalls,
                                 policy->nesting == CARREL__V1__CHOICE__CHOICE_YES, &before);
                assert_memory_equal(before.has, after.has, sizeof before.has);
        }
}

static bool rule_matches(const OciSyscall *rule, const char *call, const uint64_t *args) {
        if (strcmp(rule->names[0], call) != 0 && rule->n_args > 0)
                return false;
        for (size_t i = 0; i < rule->n_args; i++) {
                assert_string_equal(rule->args[i]->op, "SCMP_CMP_MASKED_EQ");
                if ((args[rule->args[i]->index] & rule->args[i]->value) != rule->args[i]->valuetwo)
                        return false;
        }
        for (size_t i = 0; i < rule->n_names; i++)
                if (strcmp(rule->names[i], call) == 0)
                        return true;
        return false;
}

static bool exported_allows(const OciSeccomp *p, const char *call, uint64_t a0, uint64_t a1) {
        const uint64_t args[SYSCALL_ARGS] = {a0, a1};

        for (size_t i = 0; i < p->n_syscalls; i++)
                if (strcmp(p->syscalls[i]->action, "SCMP_ACT_ALLOW") == 0 &&
                    rule_matches(p->syscalls[i], call, args))
                        return true;
        return false;
}

/* As the engine would read it. */
static void an_exported_profile_says_what_the_filter_does(void **state) {
        _cleanup_message_ Policy *policy = profile_named("default");
        _cleanup_message_ OciSeccomp *p = NULL;

        assert_int_equal(oci_export(policy, &p, NULL), 0);
        assert_string_equal(p->defaultaction, "SCMP_ACT_ERRNO");
        assert_int_equal(p->defaulterrnoret, EPERM);
        assert_string_equal(p->architectures[0], "SCMP_ARCH_X86_64");
        assert_true(exported_allows(p, "read", 0, 0));
        assert_false(exported_allows(p, "mount", 0, 0));
        assert_false(exported_allows(p, "clone3", 0, 0));
        for (uint64_t request = 0x5400; request < 0x5480; request++)
                assert_int_equal(exported_allows(p, "ioctl", 0, request),
                                 request != 0x5412 && request != 0x541c && request != 0x5423);
        for (uint64_t family = 0; family < 50; family++)
                assert_int_equal(exported_allows(p, "socket", family, 1),
                                 family == 1 || family == 2 || family == 10 || family == 16);
        assert_true(exported_allows(p, "clone", 17, 0));
        assert_false(exported_allows(p, "clone", 0x10000011, 0));
        assert_string_equal(p->syscalls[p->n_syscalls - 1]->names[0], "clone3");
        assert_int_equal(p->syscalls[p->n_syscalls - 1]->errnoret, ENOSYS);
}

static void refuse(const char *text, const char *what) {
        _cleanup_message_ Policy *base = profile_named("default"), *policy = NULL;
        _cleanup_message_ OciSeccomp *profile = parse(text);
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(oci_import(profile, base, note, NULL, &policy, &e), -EINVAL);
        assert_string_equal(e->what, what);
        assert_non_null(e->hint);
        assert_null(policy);
}

static void what_is_no_allow_list_is_refused(void **state) {
        refuse("{}", "this is no seccomp profile");
        refuse("{\"ociVersion\": \"1.0.2\", \"linux\": {\"seccomp\": {}}}",
               "this is no seccomp profile");
        refuse("{\"defaultAction\": \"SCMP_ACT_ALLOW\"}",
               "the profile's default is 'SCMP_ACT_ALLOW': what it does not name would be allowed");
        refuse("{\"defaultAction\": \"SCMP_ACT_LOG\"}",
               "the profile's default is 'SCMP_ACT_LOG': what it does not name would be allowed");
        refuse("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"architectures\": [\"SCMP_ARCH_ARM\"]}",
               "the profile has nothing for x86-64");
}

static void what_starts_a_program_stays_and_is_said(void **state) {
        SyscallSet set = import_text("{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"}");
        size_t n = 0;

        for (unsigned i = 0; i < SYSCALL_NUMBERS; i++)
                n += set.has[i];
        assert_int_equal(n, 1 + n_syscall_required + 1 /* clone3, which answers ENOSYS */);
        assert_true(warned("execve", "it is allowed all the same"));
}

#define ALLOW(call, args)                                                                          \
        "{\"names\": [\"" call "\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [" args "]},"
#define DENY(call, args)                                                                           \
        "{\"names\": [\"" call "\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": [" args "]},"
#define ARGUMENT(i, v, w, op)                                                                      \
        "{\"index\": " #i ", \"value\": " #v ", \"valueTwo\": " #w ", \"op\": \"SCMP_CMP_" op "\"" \
        "}"
#define KERNEL(action, which, version)                                                             \
        "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_" action "\", \"" which                    \
        "\": {\"minKernel\": \"" version "\"}},"
#define LAST "{\"names\": [\"write\"], \"action\": \"SCMP_ACT_ALLOW\"}"

/* Each could open more than the profile says, if it were taken by halves. */
static const struct {
        const char *rules, *call;
        bool taken;
} halves[] = {
        {ALLOW("clone", ARGUMENT(0, 268435456, 0, "MASKED_EQ")), "clone", true},
        {ALLOW("clone", ARGUMENT(0, 17, 0, "MASKED_EQ")), "clone", false},
        {ALLOW("socket", ARGUMENT(0, 1, 0, "EQ")), "socket", false},
        {ALLOW("socket", ARGUMENT(0, 1, 0, "NE")), "socket", false},
        {ALLOW("socket", ARGUMENT(0, 17, 0, "NE")), "socket", true},
        {ALLOW("socket", ARGUMENT(0, 40, 0, "NE") "," ARGUMENT(1, 3, 0, "NE")), "socket", false},
        {ALLOW("socket", ARGUMENT(0, 40, 0, "NE") "," ARGUMENT(0, 41, 0, "NE")), "socket", false},
        {ALLOW("socket", "") DENY("socket", ARGUMENT(0, 40, 0, "EQ")), "socket", true},
        {ALLOW("socket", "") DENY("socket", ARGUMENT(0, 1, 0, "EQ")), "socket", false},
        {ALLOW("socket", "") DENY("socket", ARGUMENT(0, 9, 0, "GT")), "socket", false},
        {ALLOW("read", "") DENY("read", ""), "read", false},
        /* Both halves of one bit, but only where the high half is zero. */
        {ALLOW("read", ARGUMENT(0, 4294967297, 0, "MASKED_EQ"))
                 ALLOW("read", ARGUMENT(0, 4294967297, 1, "MASKED_EQ")),
         "read", false},
        {ALLOW("read", ARGUMENT(0, 1, 0, "MASKED_EQ"))
                 ALLOW("read", ARGUMENT(0, 1, 1, "MASKED_EQ")),
         "read", true},
        {ALLOW("read", ARGUMENT(0, 1, 2, "MASKED_EQ")), "read", false},
        {ALLOW("read", ARGUMENT(9, 1, 1, "EQ")), "read", false},
        {ALLOW("read", ARGUMENT(0, 1, 1, "TRUE")), "read", false},
        {ALLOW("prctl", ARGUMENT(0, 35, 0, "NE")), "prctl",
         true}, /* carrel refuses that, and more */
        {ALLOW("prctl", ARGUMENT(0, 36, 0, "NE")), "prctl", false},
        {ALLOW("init_module", ""), "init_module", false},
        {ALLOW("read", "") "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_TRACE\"},", "read",
         false},
        {"{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\", \"includes\": {\"minKernel\": "
         "\"x\"}},",
         "read", false},
        {KERNEL("ALLOW", "includes", "5.19"), "read", true},
        {KERNEL("ALLOW", "includes", "5.20"), "read", false},
        {KERNEL("ALLOW", "includes", "5."), "read", false},
        {KERNEL("ALLOW", "excludes", "5.4"), "read", false},
        {KERNEL("ALLOW", "excludes", "6.9"), "read", false},
        {ALLOW("read", "") KERNEL("ERRNO", "includes", "6.9"), "read", false},
        {ALLOW("read", "") KERNEL("ERRNO", "excludes", "6.9"), "read", false},
        {ALLOW("read", "") KERNEL("ERRNO", "excludes", "5.4"), "read", true},
        {"{\"name\": \"read\", \"action\": \"SCMP_ACT_ALLOW\"},", "read", true},
};

static void a_call_is_taken_over_whole_or_not_at_all(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(halves); i++) {
                _cleanup_free_ char *rules = NULL;
                SyscallSet set;

                assert_true(asprintf(&rules, "%s" LAST, halves[i].rules) > 0);
                set = import_text(rules);
                if (has(&set, halves[i].call) != halves[i].taken)
                        fail_msg("rule %zu: '%s' was%s taken over:\n%s", i, halves[i].call,
                                 halves[i].taken ? " not" : "", warnings);
        }
}

static void broken_profiles_are_refused_with_their_place(void **state) {
        static const struct {
                const char *text, *what;
        } cases[] = {
                {"{\"syscalls\": {}}", "p.json:1:14: 'syscalls' must be a list"},
                {"{\"syscalls\": [{\"args\": [{\"index\": -1}]}]}", "'index' must be"},
                {"{\"syscalls\": [{\"args\": [{\"value\": 0x10}]}]}", "'value' must be"},
                {"{\"syscalls\": [{\"names\": \"read\"}]}", "'names' must be a list"},
                {"{\"defaultAction\": \"a\", \"defaultAction\": \"b\"}", "duplicate key"},
                {"{\"defaultAction\": ", "did not find expected node content"},
                {"[]", "must be a mapping"},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_error_ Error *e = NULL;
                void *m = NULL;

                assert_true(text_parse_known("p.json", cases[i].text, strlen(cases[i].text),
                                             &carrel__v1__oci_seccomp__descriptor, &m, &e) < 0);
                if (!strstr(e->what, cases[i].what))
                        fail_msg("%s", e->what);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_engines_profile_is_taken_over),
                cmocka_unit_test(export_and_import_give_the_same_calls),
                cmocka_unit_test(an_exported_profile_says_what_the_filter_does),
                cmocka_unit_test(what_is_no_allow_list_is_refused),
                cmocka_unit_test(what_starts_a_program_stays_and_is_said),
                cmocka_unit_test(a_call_is_taken_over_whole_or_not_at_all),
                cmocka_unit_test(broken_profiles_are_refused_with_their_place),
        };

        return cmocka_run_group_tests_name("oci", tests, NULL, NULL);
}
