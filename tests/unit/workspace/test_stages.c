/* The stages' contracts, held against one another without making a workspace. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "workspace/build.h"

static unsigned walk(const Stage *stages, size_t n, unsigned facts) {
        for (size_t i = 0; i < n; i++) {
                const Stage *s = &stages[i];

                if ((facts & s->needs) != s->needs)
                        fail_msg("stage '%s' needs what no earlier stage gives", s->name);
                if (facts & s->never)
                        fail_msg("stage '%s' comes after what must never stand before it", s->name);
                if (facts & s->gives)
                        fail_msg("stage '%s' gives what is there already", s->name);
                facts |= s->gives;
        }
        return facts;
}

static unsigned walk_all(void) {
        unsigned facts = walk(workspace_outside_stages, workspace_n_outside_stages, 0);

        return walk(workspace_inside_stages, workspace_n_inside_stages, facts | FACT_INSIDE);
}

static void each_stage_finds_what_it_needs(void **state) {
        assert_int_equal(walk_all(),
                         (FACT_IDENTITY << 1) - 1); /* every fact there is holds in the end */
}

static void the_user_namespace_is_entered_last(void **state) {
        const Stage *last = &workspace_inside_stages[workspace_n_inside_stages - 1];

        assert_string_equal(last->name, "identity");
        for (size_t i = 0; i + 1 < workspace_n_inside_stages; i++)
                assert_false(workspace_inside_stages[i].gives & FACT_IDENTITY);
}

static void nothing_of_the_host_is_open_once_inside_the_user_namespace(void **state) {
        const Stage *last = &workspace_inside_stages[workspace_n_inside_stages - 1];

        assert_true(last->needs & FACT_CLEAN);
}

static void a_plan_with_no_root_is_refused(void **state) {
        _cleanup_error_ Error *e = NULL;
        WorkspaceSpec spec = {.n_sources = 0};
        pid_t pid;
        int pidfd;

        assert_int_equal(workspace_start(&spec, &pid, &pidfd, &e), -EINVAL);
        assert_non_null(strstr(e->what, "host trees"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_stage_finds_what_it_needs),
                cmocka_unit_test(the_user_namespace_is_entered_last),
                cmocka_unit_test(nothing_of_the_host_is_open_once_inside_the_user_namespace),
                cmocka_unit_test(a_plan_with_no_root_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
