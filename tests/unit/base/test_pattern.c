/* The pattern language as a table, and what is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/pattern.h"

static void paths_are_covered_led_to_or_neither(void **state) {
        static const struct {
                const char *pattern, *path;
                PatternMatch match;
        } table[] = {
                {"Jenkinsfile", "Jenkinsfile", PATTERN_COVERS},
                {"Jenkinsfile", "jenkinsFILE", PATTERN_COVERS},
                {"Jenkinsfile", "Jenkinsfile/x", PATTERN_COVERS},
                {"Jenkinsfile", "Jenkinsfile2", PATTERN_NONE},
                {"Jenkinsfile", "sub/Jenkinsfile", PATTERN_NONE},
                {".github", ".github/workflows/ci.yml", PATTERN_COVERS},
                {".github/**", ".github", PATTERN_COVERS},
                {".github/**", ".GitHub/a/b/c", PATTERN_COVERS},
                {".github/**", ".githubx", PATTERN_NONE},
                {".github/*", ".github", PATTERN_LEADS},
                {".github/*", ".github/a/b", PATTERN_COVERS},
                {"a/b/c", "a", PATTERN_LEADS},
                {"a/b/c", "a/b", PATTERN_LEADS},
                {"a/b/c", "a/c", PATTERN_NONE},
                {"a/b/c", "b", PATTERN_NONE},
                {"**/.envrc", ".envrc", PATTERN_COVERS},
                {"**/.envrc", "a/b/c/.envrc", PATTERN_COVERS},
                {"**/.envrc", "a/b", PATTERN_NONE},
                {"**/.git/hooks/**", "x/.git", PATTERN_LEADS},
                {"**/.git/hooks/**", ".git/hooks", PATTERN_COVERS},
                {"**/.git/hooks/**", "x/.git/y", PATTERN_NONE},
                {"**/.git/hooks/**", ".git/.git/hooks/x", PATTERN_COVERS},
                {"**/a/**/b", "x/a/y/z/b", PATTERN_COVERS},
                {"**/a/**/b", "a/b", PATTERN_COVERS},
                {"**/a/**/b", "a/y", PATTERN_LEADS},
                {"**/a/**/b", "b/y", PATTERN_NONE},
                {"**", "anything/at/all", PATTERN_COVERS},
                {"*.yml", "a.yml", PATTERN_COVERS},
                {"*.yml", "a/b.yml", PATTERN_NONE},
                {"*", ".hidden", PATTERN_COVERS},
                {"c?.yml", "ci.yml", PATTERN_COVERS},
                {"[a-c]x", "Bx", PATTERN_COVERS},
                {"[!a-c]x", "bx", PATTERN_NONE},
                {"\\*", "*", PATTERN_COVERS},
                {"\\*", "x", PATTERN_NONE},
                {"caf\xc3\xa9", "caf\xc3\xa9", PATTERN_COVERS},
                {"*x", "\xff\xfex", PATTERN_COVERS},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (pattern_match(table[i].pattern, table[i].path) != table[i].match)
                        fail_msg("'%s' and '%s': not %d", table[i].pattern, table[i].path,
                                 table[i].match);
}

static void what_is_no_pattern_is_refused_with_its_reason(void **state) {
        static const struct {
                const char *pattern, *what;
        } table[] = {
                {"", "pattern '' has an empty part"},
                {"/etc", "pattern '/etc' is an absolute path"},
                {"a//b", "pattern 'a//b' has an empty part"},
                {"a/", "pattern 'a/' has an empty part"},
                {"../a", "pattern '../a' has a part that is '.' or '..'"},
                {"a/./b", "pattern 'a/./b' has a part that is '.' or '..'"},
                {"a\\", "pattern 'a\\' has a '\\' that quotes nothing"},
                {"a[b/c]", "pattern 'a[b/c]' has a '[' without its ']'"},
                {"[]", "pattern '[]' has a '[' without its ']'"},
                {"[!]", "pattern '[!]' has a '[' without its ']'"},
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_error_ Error *e = NULL;

                assert_int_equal(pattern_check(table[i].pattern, &e), -EINVAL);
                assert_string_equal(e->what, table[i].what);
                assert_non_null(e->hint);
        }
}

static void what_is_one_is_taken(void **state) {
        static const char *const good[] = {
                "a", "**", "**/a/**", ".github/**", "[]]", "[!a]b", "[[]", "\\[", "[[:alpha:]]x",
        };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                assert_int_equal(pattern_check(good[i], NULL), 0);
}

static void long_ones_are_refused_and_match_nothing(void **state) {
        char text[PATTERN_MAX_SIZE + 2], deep[2 * PATTERN_MAX_PARTS + 2] = "a";
        _cleanup_error_ Error *e = NULL, *f = NULL;

        memset(text, 'a', sizeof text);
        text[PATTERN_MAX_SIZE + 1] = 0;
        assert_int_equal(pattern_check(text, &e), -ENAMETOOLONG);
        assert_non_null(strstr(e->what, "has more than 255 bytes or 16 parts"));
        assert_int_equal(pattern_match(text, text), PATTERN_NONE);
        text[PATTERN_MAX_SIZE] = 0;
        assert_int_equal(pattern_check(text, NULL), 0);

        for (unsigned i = 0; i < PATTERN_MAX_PARTS; i++)
                strcat(deep, "/a");
        assert_int_equal(pattern_check(deep, &f), -E2BIG);
        deep[2 * PATTERN_MAX_PARTS - 1] = 0;
        assert_int_equal(pattern_check(deep, NULL), 0);
        assert_int_equal(pattern_match(deep, deep), PATTERN_COVERS);
}

/* With backtracking each of these takes longer than anybody waits. */
static void no_input_takes_long(void **state) {
        static const char stars[] = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b";
        static const char anys[] = "**/a/**/a/**/a/**/a/**/a/**/a/**/a/b";
        char name[256], path[4095];

        memset(name, 'a', 255);
        name[255] = 0;
        assert_int_equal(pattern_match(stars, name), PATTERN_NONE);
        for (size_t i = 0; i < sizeof path; i++)
                path[i] = i % 2 ? '/' : 'a';
        path[sizeof path - 2] = 0;
        assert_int_equal(pattern_check(anys, NULL), 0);
        assert_int_equal(pattern_match(anys, path), PATTERN_LEADS);
}

static void exceptions_win_wherever_they_stand(void **state) {
        char hooks[] = ".git/hooks/**", sample[] = "!**/*.sample", x[] = ".git/hooks/x";
        char *include[] = {sample, hooks}, *exclude[] = {x};
        const PatternSet set = {include, 2, exclude, 1};

        assert_int_equal(pattern_set_match(&set, ".git/hooks/pre-commit"), PATTERN_COVERS);
        assert_int_equal(pattern_set_match(&set, ".git/hooks/a.sample"), PATTERN_NONE);
        assert_int_equal(pattern_set_match(&set, ".git/hooks/x"), PATTERN_NONE);
        assert_int_equal(pattern_set_match(&set, ".git"), PATTERN_LEADS);
        assert_int_equal(pattern_set_excludes(&set, ".git/hooks"), PATTERN_LEADS);
        assert_int_equal(pattern_set_match(&set, "src"), PATTERN_NONE);
}

static void a_literal_directory_is_found_behind_any_depth(void **state) {
        char path[PATTERN_MAX_SIZE + 1];

        assert_true(pattern_literal("**/.git/hooks/**", path));
        assert_string_equal(path, ".git/hooks");
        assert_true(pattern_literal("a", path));
        assert_string_equal(path, "a");
        assert_false(pattern_literal("a/*", path));
        assert_false(pattern_literal("a/**/b", path));
        assert_false(pattern_literal("**", path));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_are_covered_led_to_or_neither),
                cmocka_unit_test(what_is_no_pattern_is_refused_with_its_reason),
                cmocka_unit_test(what_is_one_is_taken),
                cmocka_unit_test(long_ones_are_refused_and_match_nothing),
                cmocka_unit_test(no_input_takes_long),
                cmocka_unit_test(exceptions_win_wherever_they_stand),
                cmocka_unit_test(a_literal_directory_is_found_behind_any_depth),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
