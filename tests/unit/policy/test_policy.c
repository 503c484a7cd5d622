/* Loading policies: what they extend, how they merge, and what is refused
 * (tests/data/reject/policy). */
#include <dirent.h>
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
#include "policy/concerns.h"
#include "policy/policy.h"
#include "proto/text/text.h"

static const char *const profiles[] = {PROFILES_DIR, NULL};

static Policy *parse(const char *text) {
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        if (text_parse("policy.yaml", text, strlen(text), &carrel__v1__policy__descriptor, &m, NULL,
                       &err) < 0)
                fail_msg("%s", err->what);
        return m;
}

static Policy *resolve(const char *text) {
        _cleanup_message_ Policy *given = parse(text);
        _cleanup_error_ Error *err = NULL;
        Policy *whole = NULL;

        if (policy_resolve(profiles, given, &whole, &err) < 0)
                fail_msg("%s", err->what);
        return whole;
}

static const char *variable(const Policy *p, const char *name) {
        for (size_t i = 0; i < p->n_environment; i++)
                if (strcmp(p->environment[i]->key, name) == 0)
                        return p->environment[i]->value;
        return NULL;
}

static bool is_case(const char *file) {
        size_t n = strlen(file);

        return file[0] != '.' && n > 5 && strcmp(file + n - 5, ".yaml") == 0 &&
               strcmp(file, "cycle-b.yaml") != 0;
}

static void every_shipped_profile_is_whole(void **state) {
        DIR *dir = opendir(PROFILES_DIR);
        struct dirent *de;
        unsigned n = 0;

        assert_non_null(dir);
        while ((de = readdir(dir))) {
                _cleanup_free_ char *name = strndup(de->d_name, strcspn(de->d_name, "."));
                _cleanup_message_ Policy *p = NULL;
                _cleanup_error_ Error *err = NULL;

                if (!is_case(de->d_name))
                        continue;
                if (policy_load(profiles, NULL, name, &p, &err) < 0)
                        fail_msg("%s", err->what);
                assert_string_equal(p->name, name);
                assert_string_equal(p->extends, "");
                assert_true(*p->description);
                assert_int_equal(p->network->mode, CARREL__V1__NETWORK_MODE__NETWORK_MODE_NONE);
                n++;
        }
        closedir(dir);
        assert_int_equal(n, 3);
}

static void what_is_set_overrides_and_the_rest_stays(void **state) {
        _cleanup_message_ Policy *p =
                resolve("{name: mine, resources: {pids: 99}, limits: {stop_grace: 1s}}");

        assert_string_equal(p->name, "mine");
        assert_int_equal(p->resources->pids, 99);
        assert_int_equal(p->resources->memory_bytes, 4 * GIB);
        assert_int_equal(p->limits->stop_grace_us, USEC_PER_SEC);
        assert_int_equal(p->limits->artifacts, 256);
        assert_string_equal(p->identity->user, "agent");
        /* The parent's description tells of the parent. */
        assert_string_equal(p->description, "");
}

static void lists_are_appended_after_the_parents(void **state) {
        _cleanup_message_ Policy *p =
                resolve("{extends: build, syscalls: {allow: [unshare], deny: [kill]}}");
        size_t n = p->syscalls->n_allow;

        assert_string_equal(p->syscalls->allow[0], "@base");
        assert_string_equal(p->syscalls->allow[n - 2], "@debug");
        assert_string_equal(p->syscalls->allow[n - 1], "unshare");
        assert_int_equal(p->syscalls->n_deny, 1);
}

static void maps_override_by_key(void **state) {
        _cleanup_message_ Policy *parent = parse("environment: {A: '1', B: '2'}");
        _cleanup_message_ Policy *child = parse("environment: {B: '3', C: '4'}");

        assert_int_equal(policy_merge(parent, child, NULL), 0);
        assert_int_equal(parent->n_environment, 3);
        assert_string_equal(variable(parent, "A"), "1");
        assert_string_equal(variable(parent, "B"), "3");
        assert_string_equal(variable(parent, "C"), "4");
        assert_string_equal(variable(child, "B"), "3");
}

static void messages_are_merged_field_by_field_and_copied(void **state) {
        _cleanup_message_ Policy *parent = parse("{resources: {pids: 10}}");
        Policy *child = parse("{resources: {memory: 1GiB}, filesystem: {mounts: [{source: /a, "
                              "target: /mnt/a}]}}");

        assert_int_equal(policy_merge(parent, child, NULL), 0);
        message_free(child);
        assert_int_equal(parent->resources->pids, 10);
        assert_int_equal(parent->resources->memory_bytes, GIB);
        assert_string_equal(parent->filesystem->mounts[0]->target, "/mnt/a");
}

static void a_file_may_extend_a_file_beside_it(void **state) {
        char dir[] = "/tmp/test-policy-XXXXXX";
        _cleanup_message_ Policy *p = NULL;
        _cleanup_error_ Error *err = NULL;
        _cleanup_close_ int fd = -EBADF;
        const char *upper = "extends: strict\nresources: {pids: 77}\n",
                   *lower = "extends: ../base.yaml\n";

        assert_non_null(mkdtemp(dir));
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(file_create_at(fd, "base.yaml", 0600, upper, strlen(upper), &err), 0);
        assert_int_equal(mkdirat(fd, "team", 0700), 0);
        assert_int_equal(file_create_at(fd, "team/mine.yaml", 0600, lower, strlen(lower), &err), 0);
        if (policy_load(profiles, dir, "team/mine.yaml", &p, &err) < 0)
                fail_msg("%s", err->what);
        assert_string_equal(p->name, "mine");
        assert_int_equal(p->resources->pids, 77);
        assert_int_equal(p->resources->memory_bytes, GIB);
        assert_int_equal(fd_remove_tree(AT_FDCWD, dir, NULL), 0);
}

static void a_submitted_policy_opens_no_file(void **state) {
        _cleanup_message_ Policy *given = parse("{name: mine, extends: /etc/passwd}"),
                                 *whole = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(policy_resolve(profiles, given, &whole, &err), -EPERM);
        assert_string_equal(
                err->what,
                "policy 'mine': policy file '/etc/passwd' cannot be named here, only profiles");
        assert_non_null(err->hint);
        assert_null(whole);
}

static void a_name_that_is_no_profile_cannot_reach_a_file(void **state) {
        static const char *const names[] = {"../profiles/default", "default.yaml", "/etc/passwd",
                                            "", "a b"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_message_ Policy *p = NULL;
                _cleanup_error_ Error *err = NULL;
                int r = policy_load(profiles, NULL, names[i], &p, &err);

                assert_true(r == -EPERM || r == -EINVAL);
                assert_non_null(err->hint);
        }
}

static void a_chain_ends_at_sixteen(void **state) {
        char dir[] = "/tmp/test-policy-XXXXXX";
        _cleanup_message_ Policy *p = NULL;
        _cleanup_error_ Error *err = NULL;
        _cleanup_close_ int fd = -EBADF;

        assert_non_null(mkdtemp(dir));
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < 20; i++) {
                char name[32], text[64];

                snprintf(name, sizeof name, "p%d.yaml", i);
                snprintf(text, sizeof text, "extends: p%d.yaml\n", i + 1);
                assert_int_equal(file_create_at(fd, name, 0600, text, strlen(text), &err), 0);
        }
        assert_int_equal(policy_load(profiles, dir, "p0.yaml", &p, &err), -ELOOP);
        assert_non_null(strstr(err->what, "policy 'p0.yaml' extends more than 15 others"));
        assert_int_equal(fd_remove_tree(AT_FDCWD, dir, NULL), 0);
}

static void a_policy_with_a_field_unset_is_not_whole(void **state) {
        _cleanup_message_ Policy *p = parse("{resources: {pids: 99}}");
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(policy_check(p, &err), -EINVAL);
        assert_string_equal(err->what, "'resources.memory' is not set");
        assert_string_equal(err->field, "resources.memory");
}

/* What, hint and field, as they stand in NAME.yaml.expected. */
static void refuse_as_expected(int dir_fd, const char *file) {
        _cleanup_free_ char *expected = NULL, *got = NULL, *name = NULL;
        _cleanup_message_ Policy *p = NULL;
        _cleanup_error_ Error *err = NULL, *missing = NULL;

        if (policy_load(profiles, ".", file, &p, &err) >= 0)
                fail_msg("'%s' is not refused", file);
        assert_true(asprintf(&got, "%s\nhint: %s\nfield: %s\n", err->what, err->hint ?: "",
                             err->field ?: "") > 0);
        assert_true(asprintf(&name, "%s.expected", file) > 0);
        if (getenv("CARREL_WRITE_EXPECTED"))
                (void)file_create_at(dir_fd, name, 0644, got, strlen(got), NULL);
        if (file_read_at(dir_fd, name, 64 * KIB, &expected, NULL, &missing) < 0)
                fail_msg("%s; the error is:\n%s", missing->what, got);
        assert_string_equal(got, expected);
}

static void each_rejected_file_is_refused_as_expected(void **state) {
        DIR *dir = opendir(DATA_DIR "/reject/policy");
        struct dirent *de;
        unsigned n = 0;

        assert_non_null(dir);
        assert_int_equal(fchdir(dirfd(dir)), 0);
        while ((de = readdir(dir)))
                if (is_case(de->d_name)) {
                        refuse_as_expected(dirfd(dir), de->d_name);
                        n++;
                }
        closedir(dir);
        assert_true(n >= 20);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_shipped_profile_is_whole),
                cmocka_unit_test(what_is_set_overrides_and_the_rest_stays),
                cmocka_unit_test(lists_are_appended_after_the_parents),
                cmocka_unit_test(maps_override_by_key),
                cmocka_unit_test(messages_are_merged_field_by_field_and_copied),
                cmocka_unit_test(a_file_may_extend_a_file_beside_it),
                cmocka_unit_test(a_submitted_policy_opens_no_file),
                cmocka_unit_test(a_name_that_is_no_profile_cannot_reach_a_file),
                cmocka_unit_test(a_chain_ends_at_sixteen),
                cmocka_unit_test(a_policy_with_a_field_unset_is_not_whole),
                cmocka_unit_test(each_rejected_file_is_refused_as_expected),
        };

        return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
