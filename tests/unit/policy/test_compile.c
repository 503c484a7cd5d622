/*
 * Tasks that are refused, and plans compared with tests/data/golden/plan: a change of a plan is
 * meant, or a defect
 *
 * CARREL_WRITE_EXPECTED=1 writes golden files that are missing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "policy/compile.h"
#include "policy/concerns.h"
#include "policy/policy.h"
#include "proto/text/text.h"

#define IMAGE_TEXT                                                                                 \
        "{name: host, bind: [/usr], links: [{path: /bin, target: usr/bin}], copy: "                \
        "[/etc/ld.so.cache]}"
#define IMAGE_DIGEST "sha256:0000000000000000000000000000000000000000000000000000000000000000"
#define TASK(more)   "{owner: ada, harness: {command: [make]}" more "}"

static const char *const profiles[] = {PROFILES_DIR, NULL};

static void *parse(const char *text, const MessageDescriptor *d) {
        _cleanup_error_ Error *err = NULL;
        void *m = NULL;

        if (text_parse("input.yaml", text, strlen(text), d, &m, NULL, &err) < 0)
                fail_msg("%s", err->what);
        return m;
}

static int compile(const char *task_text,
                   const char *policy_text,
                   const char *image_text,
                   Plan **ret,
                   Error **reterr) {
        _cleanup_message_ Task *task = parse(task_text, &carrel__v1__task__descriptor);
        _cleanup_message_ Policy *given = parse(policy_text, &carrel__v1__policy__descriptor),
                                 *policy = NULL;
        _cleanup_message_ Image *image = parse(image_text, &carrel__v1__image__descriptor);
        int r = policy_resolve(profiles, given, &policy, reterr);

        return r < 0 ? r : plan_compile(task, policy, image, IMAGE_DIGEST, ret, reterr);
}

static Plan *plan_of(const char *task, const char *policy) {
        _cleanup_error_ Error *err = NULL;
        Plan *plan = NULL;

        if (compile(task, policy, IMAGE_TEXT, &plan, &err) < 0)
                fail_msg("%s", err->what);
        return plan;
}

static const char *variable(const PlanProcess *p, const char *name) {
        size_t size = strlen(name);

        for (size_t i = 0; i < p->n_environment; i++)
                if (strncmp(p->environment[i], name, size) == 0 && p->environment[i][size] == '=')
                        return p->environment[i] + size + 1;
        return NULL;
}

static void the_same_input_gives_the_same_digest(void **state) {
        _cleanup_message_ Plan *a = plan_of(TASK(""), "{}"), *b = plan_of(TASK(""), "{}");
        _cleanup_message_ Plan *c = plan_of(TASK(", prompt: more"), "{}");
        _cleanup_free_ char *da = NULL, *db = NULL, *dc = NULL;

        assert_int_equal(plan_digest(a, &da, NULL), 0);
        assert_int_equal(plan_digest(b, &db, NULL), 0);
        assert_int_equal(plan_digest(c, &dc, NULL), 0);
        assert_string_equal(da, db);
        assert_string_not_equal(da, dc);
        assert_int_equal(strncmp(da, "sha256:", 7), 0);
}

static void defaults_are_those_that_the_schema_promises(void **state) {
        _cleanup_message_ Plan *bare = plan_of(TASK(""), "{}");
        _cleanup_message_ Plan *checked =
                plan_of(TASK(", checks: [{name: t, command: [x], junit: out/r.xml}]"), "{}");

        assert_string_equal(bare->name, "task");
        assert_int_equal(bare->attempts, 1);
        assert_int_equal(checked->attempts, 3);
        assert_int_equal(bare->timeout_us, 3600 * USEC_PER_SEC);
        assert_int_equal(bare->harness->timeout_us, bare->timeout_us);
        assert_int_equal(checked->checks[0]->process->timeout_us, 600 * USEC_PER_SEC);
        assert_string_equal(checked->checks[0]->junit, "/workspace/out/r.xml");
        assert_string_equal(bare->harness->working_directory, "/workspace");
        assert_int_equal(bare->prompt_delivery, CARREL__V1__PROMPT_DELIVERY__PROMPT_DELIVERY_STDIN);
        assert_string_equal(bare->hostname, "carrel");
}

static void a_check_is_no_longer_than_the_run(void **state) {
        _cleanup_message_ Plan *p =
                plan_of(TASK(", timeout: 2m, checks: [{name: t, command: [x]}]"), "{}");

        assert_int_equal(p->checks[0]->process->timeout_us, 120 * USEC_PER_SEC);
}

static void a_relative_working_directory_starts_at_the_target(void **state) {
        _cleanup_message_ Plan *p = plan_of("{owner: a, source: {target: /src}, harness: {command: "
                                            "[x], working_directory: sub/dir}}",
                                            "{}");

        assert_string_equal(p->harness->working_directory, "/src/sub/dir");
        assert_string_equal(p->target, "/src");
}

static const PlanMask *mask_of(const Plan *p, const char *path) {
        for (size_t i = 0; i < p->n_masks; i++)
                if (strcmp(p->masks[i]->path, path) == 0)
                        return p->masks[i];
        return NULL;
}

static void the_kernels_own_is_masked_but_for_an_inner_sandbox(void **state) {
        _cleanup_message_ Plan *plain = plan_of(TASK(""), "{}"),
                               *nested = plan_of(TASK(""), "{nesting: yes}"),
                               *sys = plan_of(TASK(""), "{filesystem: {sys: yes}}");

        assert_int_equal(mask_of(plain, "/proc/cmdline")->kind,
                         CARREL__V1__MASK_KIND__MASK_KIND_HIDE);
        assert_int_equal(mask_of(plain, "/proc/sys")->kind,
                         CARREL__V1__MASK_KIND__MASK_KIND_READ_ONLY);
        assert_null(mask_of(plain, "/sys/kernel"));
        assert_int_equal(nested->n_masks, 0);
        assert_true(nested->nesting && !plain->nesting);
        assert_non_null(mask_of(sys, "/sys/kernel"));
        assert_non_null(mask_of(sys, "/proc/cmdline"));
        for (size_t i = 0; i < sys->n_masks; i++)
                for (size_t k = 0; k < i; k++)
                        assert_false(path_contains(sys->masks[i]->path, sys->masks[k]->path));
}

static const PlanMount *mount_of(const Plan *p, const char *target) {
        for (size_t i = 0; i < p->n_mounts; i++)
                if (strcmp(p->mounts[i]->target, target) == 0)
                        return p->mounts[i];
        return NULL;
}

static void nothing_is_executed_where_the_policy_says_so(void **state) {
        _cleanup_message_ Plan *p = plan_of(TASK(""), "{filesystem: {noexec: [/tmp]}}"),
                               *none = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_false(mount_of(p, "/tmp")->executable);
        assert_true(mount_of(p, "/usr")->executable);
        assert_int_equal(
                compile(TASK(""), "{filesystem: {noexec: [/tmp, /temp]}}", IMAGE_TEXT, &none, &err),
                -EINVAL);
        assert_string_equal(err->what,
                            "'filesystem.noexec' names '/temp', where nothing is mounted");
        assert_string_equal(err->field, "filesystem.noexec[1]");
        assert_non_null(strstr(err->hint, "/dev/shm"));
}

static bool may_write(const Plan *p, const char *path) {
        for (size_t i = 0; i < p->n_landlock_writable; i++)
                if (strcmp(p->landlock_writable[i], path) == 0)
                        return true;
        return false;
}

static void landlock_lets_write_what_is_meant_to_be_written(void **state) {
        _cleanup_message_ Plan
                *plain = plan_of(TASK(""), "{}"),
                *walled = plan_of("{owner: a, source: {directory: /s}, harness: {command: [x]}}",
                                  "{filesystem: {landlock: yes}}");
        _cleanup_message_ Plan *both = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(plain->n_landlock_writable, 0);
        assert_true(may_write(walled, "/workspace") && may_write(walled, "/tmp") &&
                    may_write(walled, "/home/agent"));
        assert_false(may_write(walled, "/") || may_write(walled, "/usr"));
        assert_int_equal(compile(TASK(""), "{nesting: yes, filesystem: {landlock: yes}}",
                                 IMAGE_TEXT, &both, &err),
                         -EINVAL);
        assert_string_equal(err->field, "filesystem.landlock");
}

static void mounts_stand_in_their_order(void **state) {
        static const char *const targets[] = {"/",    "/usr", "/dev",       "/proc", "/dev/shm",
                                              "/tmp", "/run", "/workspace", "/mnt/c"};
        _cleanup_message_ Plan *p = plan_of(
                TASK(", source: {directory: /srv/code}"),
                "{filesystem: {mounts: [{source: /srv/c, target: /mnt/c, writable: true}]}}");

        assert_int_equal(p->n_mounts, ELEMENTSOF(targets));
        for (size_t i = 0; i < ELEMENTSOF(targets); i++)
                assert_string_equal(p->mounts[i]->target, targets[i]);
        assert_int_equal(p->mounts[0]->kind, CARREL__V1__MOUNT_KIND__MOUNT_KIND_ROOT);
        assert_false(p->mounts[1]->writable);
        assert_false(p->mounts[4]->executable);
        assert_int_equal(p->mounts[5]->mode, 01777);
        assert_true(p->mounts[8]->writable);
        assert_string_equal(p->source, "/srv/code");
}

static size_t read_only_of(const char *task, const char *protect, const char *first) {
        _cleanup_free_ char *policy = NULL, *whole = NULL;
        _cleanup_message_ Plan *p = NULL;

        assert_true(asprintf(&policy, "{filesystem: {protect: ['!**/.git/hooks/**', %s]}}",
                             protect) > 0);
        assert_true(asprintf(&whole, TASK(", source: {directory: /srv/code}%s"), task) > 0);
        p = plan_of(whole, policy);
        if (first)
                assert_string_equal(p->read_only[0], first);
        return p->n_read_only;
}

/* Any other may differ between two branches, and a checkout has to write it. */
static void only_directories_below_git_become_read_only(void **state) {
        assert_int_equal(read_only_of("", ".github/**, .vscode, .git, '**/.git/**'", NULL), 0);
        assert_int_equal(read_only_of("", ".git/info, '**/.git/info/**'", ".git/info"), 1);
        assert_int_equal(read_only_of("", "sub/.GIT/a/b", "sub/.GIT/a/b"), 1);
        assert_int_equal(read_only_of("", ".git/info/exc*", NULL), 0);
        assert_int_equal(read_only_of("", ".git/info, '!.git/info/**'", NULL), 0);
        assert_int_equal(read_only_of(", approve: [.git/info]", ".git/info", NULL), 0);
        assert_int_equal(read_only_of(", approve: [.git/info/x]", ".git/info", NULL), 0);
        assert_int_equal(read_only_of(", approve: [src]", ".git/info", ".git/info"), 1);
}

static void a_plan_without_a_source_protects_nothing(void **state) {
        _cleanup_message_ Plan *bare = plan_of(TASK(", approve: [x]"), "{}");
        _cleanup_message_ Plan *p =
                plan_of(TASK(", source: {directory: /srv/code}, approve: [x]"), "{}");

        assert_int_equal(bare->n_protect + bare->n_approve + bare->n_read_only, 0);
        assert_true(p->n_protect > 10);
        assert_string_equal(p->approve[0], "x");
        assert_int_equal(p->n_read_only, 1);
        assert_string_equal(p->read_only[0], ".git/hooks");
}

static void without_a_source_nothing_is_mounted_there(void **state) {
        _cleanup_message_ Plan *p = plan_of(TASK(""), "{}");

        for (size_t i = 0; i < p->n_mounts; i++)
                assert_int_not_equal(p->mounts[i]->kind, CARREL__V1__MOUNT_KIND__MOUNT_KIND_SOURCE);
}

static void the_environment_is_layered_and_sorted(void **state) {
        _cleanup_message_ Plan *p =
                plan_of("{owner: a, harness: {command: [x], environment: {B: h, HOME: /x}},"
                        " checks: [{name: t, command: [y]}]}",
                        "environment: {A: p, B: p}");
        const PlanProcess *h = p->harness, *c = p->checks[0]->process;

        assert_string_equal(variable(h, "A"), "p");
        assert_string_equal(variable(h, "B"), "h");
        assert_string_equal(variable(c, "B"), "p");
        assert_string_equal(variable(h, "HOME"), "/x");
        assert_string_equal(variable(c, "HOME"), "/home/agent");
        assert_string_equal(
                variable(h, "PATH"),
                "/run/carrel/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        assert_null(variable(h, "TERM"));
        assert_null(variable(h, "CREDENTIALS_DIRECTORY"));
        for (size_t i = 1; i < h->n_environment; i++)
                assert_true(strcmp(h->environment[i - 1], h->environment[i]) < 0);
}

static void a_check_hears_of_no_credential_of_an_attempt(void **state) {
        _cleanup_message_ Plan *attempt = plan_of(TASK(", checks: [{name: t, command: [y]}], "
                                                       "grants: [{name: token, scope: attempt}]"),
                                                  "{}");
        _cleanup_message_ Plan *run =
                plan_of(TASK(", checks: [{name: t, command: [y]}], grants: [{name: token}]"), "{}");

        assert_string_equal(variable(attempt->harness, "CREDENTIALS_DIRECTORY"),
                            "/run/credentials");
        assert_null(variable(attempt->checks[0]->process, "CREDENTIALS_DIRECTORY"));
        assert_non_null(variable(run->checks[0]->process, "CREDENTIALS_DIRECTORY"));
        assert_int_equal(run->grants[0]->scope, CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_RUN);
}

static void no_limit_of_address_space_is_set(void **state) {
        _cleanup_message_ Plan *p = plan_of(TASK(""), "{resources: {open_files: 512}}");

        for (size_t i = 0; i < p->n_rlimits; i++) {
                assert_int_not_equal(p->rlimits[i]->resource, RLIMIT_AS);
                assert_true(p->rlimits[i]->soft <= p->rlimits[i]->hard);
        }
        assert_int_equal(p->rlimits[1]->resource, RLIMIT_NOFILE);
        assert_int_equal(p->rlimits[1]->soft, 512);
}

typedef struct Refusal {
        const char *task, *what, *field;
} Refusal;

static const Refusal refusals[] = {
        {"{harness: {command: [x]}}", "the task has no owner", "owner"},
        {"{owner: a}", "the task has no harness, so there is nothing to run", "harness"},
        {"{owner: a, harness: {command: []}}", "'harness.command' is empty", "harness.command"},
        {"{owner: a, harness: {command: ['']}}", "'harness.command' is empty", "harness.command"},
        {"{owner: \"a\\nb\", harness: {command: [x]}}",
         "the task's owner is not one line of at most 256 bytes", "owner"},
        {TASK(", name: Up"), "'Up' is not a name", "name"},
        {TASK(", name: .."), "'..' is not a name", "name"},
        {TASK(", attempts: 101"), "'attempts' is 101: it must be 1 to 100", "attempts"},
        {TASK(", timeout: 8d"), "'timeout' is 8d: it must be 1ms to 7d", "timeout"},
        {TASK(", source: {directory: code}"), "the source directory is not an absolute path",
         "source.directory"},
        {TASK(", source: {directory: /a/../b}"), "the source directory is not an absolute path",
         "source.directory"},
        {TASK(", source: {target: /proc/x}"), "'/proc/x' would hide '/proc', which carrel provides",
         "source.target"},
        {TASK(", source: {target: /}"), "'/' would hide '/proc', which carrel provides",
         "source.target"},
        {TASK(", source: {target: /usr/src}"),
         "'/usr/src' collides with '/usr', which image 'host' shows read-only", "source.target"},
        {TASK(", checks: [{command: [x]}]"), "a name is missing", "checks[0].name"},
        {TASK(", checks: [{name: a, command: [x]}, {name: a, command: [y]}]"),
         "the name 'a' stands twice", "checks[1].name"},
        {TASK(", checks: [{name: a}]"), "'checks[0].command' is empty", "checks[0].command"},
        {TASK(", checks: [{name: a, command: [x], junit: /etc/x}]"),
         "'/etc/x' is not a path below the source directory", "checks[0].junit"},
        {TASK(", checks: [{name: a, command: [x], junit: a/../../x}]"),
         "'a/../../x' is not a path below the source directory", "checks[0].junit"},
        {TASK(", timeout: 1m, checks: [{name: a, command: [x], timeout: 2m}]"),
         "'checks[0].timeout' is longer than the run's timeout", "checks[0].timeout"},
        {"{owner: a, timeout: 1m, harness: {command: [x], timeout: 2m}}",
         "'harness.timeout' is longer than the run's timeout", "harness.timeout"},
        {"{owner: a, harness: {command: [x], working_directory: ../x}}",
         "the harness's working directory is not a plain path", "harness.working_directory"},
        {"{owner: a, harness: {command: [x], environment: {CREDENTIALS_DIRECTORY: x}}}",
         "environment variable 'CREDENTIALS_DIRECTORY' is reserved",
         "harness.environment.CREDENTIALS_DIRECTORY"},
        {TASK(", grants: [{name: a/b}]"), "'a/b' is not a name", "grants[0].name"},
        {TASK(", grants: [{name: a}, {name: a}]"), "the name 'a' stands twice", "grants[1].name"},
        {TASK(", grants: [{name: a, file: secret}]"), "a grant's file is not an absolute host path",
         "grants[0].file"},
        {TASK(", artifacts: [{path: /etc/shadow}]"),
         "'/etc/shadow' is not a path below the source directory", "artifacts[0].path"},
        {TASK(", artifacts: [{path: a/x}, {path: b/x}]"), "the name 'x' stands twice",
         "artifacts[1].name"},
        {TASK(", approve: [.github/**, ../x]"), "pattern '../x' has a part that is '.' or '..'",
         "approve[1]"},
        {TASK(", approve: ['!x']"), "'!x' is an exception, which an approval has not",
         "approve[0]"},
        {TASK(", labels: {k: \"a\\tb\"}"), "label 'k' is too long or not one line", "labels"},
};

static void each_wrong_task_is_refused_with_its_field_and_a_hint(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(refusals); i++) {
                _cleanup_message_ Plan *plan = NULL;
                _cleanup_error_ Error *err = NULL;

                if (compile(refusals[i].task, "{}", IMAGE_TEXT, &plan, &err) != -EINVAL)
                        fail_msg("not refused: %s", refusals[i].task);
                assert_string_equal(err->what, refusals[i].what);
                assert_string_equal(err->field, refusals[i].field);
                assert_true(err->hint && *err->hint);
                assert_null(plan);
        }
}

static void a_mount_may_not_cover_the_source(void **state) {
        _cleanup_message_ Plan *plan = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(
                compile(TASK(", source: {target: /src}"),
                        "{filesystem: {mounts: [{source: /a, target: /src/node_modules}]}}",
                        IMAGE_TEXT, &plan, &err),
                -EINVAL);
        assert_string_equal(
                err->what,
                "mount target '/src/node_modules' collides with the task's source at '/src'");
        assert_string_equal(err->field, "filesystem.mounts[0].target");
}

static void a_prompt_as_argument_must_fit_one(void **state) {
        _cleanup_message_ Task *task =
                parse("{owner: a, harness: {command: [x], prompt_delivery: argument}}",
                      &carrel__v1__task__descriptor);
        _cleanup_free_ char *prompt = malloc(128 * KIB + 1);
        _cleanup_error_ Error *err = NULL;

        memset(prompt, 'x', 128 * KIB);
        prompt[128 * KIB] = 0;
        assert_int_equal(message_set_string(&task->prompt, prompt), 0);
        assert_int_equal(task_check(task, &err), -EINVAL);
        assert_string_equal(err->hint, "use 'prompt_delivery: stdin'");
        prompt[128 * KIB - 1] = 0;
        assert_int_equal(message_set_string(&task->prompt, prompt), 0);
        assert_int_equal(task_check(task, NULL), 0);
}

/* tests/data/golden/plan/NAME/{task,policy,image}.yaml compile to plan.yaml, the filter's bytes
 * aside. */
static void compile_as_golden(int dir_fd, const char *name) {
        static const char *const inputs[] = {"task.yaml", "policy.yaml", "image.yaml"};
        _cleanup_free_ char *expected = NULL, *got = NULL;
        char *text[3] = {NULL};
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_message_ Plan *plan = NULL;
        _cleanup_error_ Error *err = NULL;

        for (size_t i = 0; i < ELEMENTSOF(inputs); i++)
                if (file_read_at(fd, inputs[i], 64 * KIB, &text[i], NULL, &err) < 0)
                        fail_msg("%s: %s", name, err->what);
        if (compile(text[0], text[1], text[2], &plan, &err) < 0)
                fail_msg("%s: %s", name, err->what);
        assert_true(plan->seccomp.len > 0);
        free(plan->seccomp.data);
        plan->seccomp = (ProtobufCBinaryData){.len = 0};
        assert_int_equal(text_print(&plan->base, TEXT_FORMAT_YAML, &got, &err), 0);
        if (getenv("CARREL_WRITE_EXPECTED"))
                (void)file_create_at(fd, "plan.yaml", 0644, got, strlen(got), NULL);
        if (file_read_at(fd, "plan.yaml", 64 * KIB, &expected, NULL, &err) < 0)
                fail_msg("%s: %s", name, err->what);
        assert_string_equal(got, expected);
        for (size_t i = 0; i < ELEMENTSOF(inputs); i++)
                free(TAKE_PTR(text[i]));
}

static void golden_tasks_compile_to_their_plans(void **state) {
        DIR *dir = opendir(DATA_DIR "/golden/plan");
        struct dirent *de;
        unsigned n = 0;

        assert_non_null(dir);
        while ((de = readdir(dir)))
                if (de->d_name[0] != '.') {
                        compile_as_golden(dirfd(dir), de->d_name);
                        n++;
                }
        closedir(dir);
        assert_int_equal(n, 3);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_same_input_gives_the_same_digest),
                cmocka_unit_test(defaults_are_those_that_the_schema_promises),
                cmocka_unit_test(a_check_is_no_longer_than_the_run),
                cmocka_unit_test(a_relative_working_directory_starts_at_the_target),
                cmocka_unit_test(the_kernels_own_is_masked_but_for_an_inner_sandbox),
                cmocka_unit_test(nothing_is_executed_where_the_policy_says_so),
                cmocka_unit_test(landlock_lets_write_what_is_meant_to_be_written),
                cmocka_unit_test(mounts_stand_in_their_order),
                cmocka_unit_test(only_directories_below_git_become_read_only),
                cmocka_unit_test(a_plan_without_a_source_protects_nothing),
                cmocka_unit_test(without_a_source_nothing_is_mounted_there),
                cmocka_unit_test(the_environment_is_layered_and_sorted),
                cmocka_unit_test(a_check_hears_of_no_credential_of_an_attempt),
                cmocka_unit_test(no_limit_of_address_space_is_set),
                cmocka_unit_test(each_wrong_task_is_refused_with_its_field_and_a_hint),
                cmocka_unit_test(a_mount_may_not_cover_the_source),
                cmocka_unit_test(a_prompt_as_argument_must_fit_one),
                cmocka_unit_test(golden_tasks_compile_to_their_plans),
        };

        return cmocka_run_group_tests_name("compile", tests, NULL, NULL);
}
