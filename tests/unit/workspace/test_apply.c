#include "workspace/apply.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "trees.h"

typedef struct Told {
        char applied[1024], conflicts[1024], kept[1024];
        ApplyResult result;
        Error *err;
} Told;

static void tell_applied(const ChangeItem *item, void *data) {
        Told *told = data;
        size_t n = strlen(told->applied);

        snprintf(told->applied + n, sizeof told->applied - n, "%c %s\n", "?AMD"[item->kind],
                 item -> path);
}

static void tell_conflict(const char *path, const char *why, void *data) {
        Told *told = data;
        size_t n = strlen(told->conflicts);

        snprintf(told->conflicts + n, sizeof told->conflicts - n, "%s: %s\n", path, why);
}

static void tell_kept(const char *path, void *data) {
        Told *told = data;
        size_t n = strlen(told->kept);

        snprintf(told->kept + n, sizeof told->kept - n, "%s\n", path);
}

static void told_done(Told *told) {
        error_freep(&told->err);
}

#define _cleanup_told_ _cleanup_(told_done)

static int apply_as(Trees *t, Told *told, uint64_t started_unix_us, bool check_only) {
        ApplyOptions options = {
                .started_unix_us = started_unix_us,
                .check_only = check_only,
                .conflict = tell_conflict,
                .applied = tell_applied,
                .data = told,
        };

        return apply_changes(t->lower, t->upper, &options, &told->result, &told->err);
}

/* The run begins after all that the test made so far. */
static uint64_t started_now(void) {
        return clock_unix_us() + USEC_PER_SEC;
}

static void apply_well(Trees *t, const char *expected) {
        _cleanup_told_ Told told = {}, again = {};

        if (apply_as(t, &told, started_now(), false) < 0)
                fail_msg("%s (%s)", told.err->what, told.conflicts);
        assert_string_equal(told.applied, expected);
        /* The original is newer than the run now: only because nothing is left to do is that no
         * conflict. */
        assert_int_equal(apply_as(t, &again, 1, false), 0);
        assert_string_equal(again.applied, "");
        assert_int_equal(again.result.applied, 0);
}

static void apply_refused(Trees *t, uint64_t started_unix_us, const char *conflicts) {
        _cleanup_told_ Told told = {};

        assert_int_equal(apply_as(t, &told, started_unix_us, false), -EEXIST);
        assert_string_equal(told.conflicts, conflicts);
        assert_string_equal(told.applied, "");
        assert_non_null(strstr(told.err->what, "nothing was applied"));
        assert_non_null(told.err->hint);
}

#define assert_text(dir, path, expected)                                                           \
        do {                                                                                       \
                _cleanup_free_ char *_text = text_of(dir, path);                                   \
                assert_string_equal(_text, expected);                                              \
        } while (0)

static void changes_of_every_kind_are_applied_once(void **state) {
        Trees *t = *state;
        char target[16] = {};

        put(t->lower, "deleted", "x", 0644);
        put(t->lower, "modified", "old", 0644);
        put(t->lower, "mode", "x", 0644);
        make_link(t->lower, "link", "old");
        make_dir(t->lower, "gone", 0755);
        make_dir(t->lower, "gone/sub", 0755);
        put(t->lower, "gone/sub/file", "x", 0644);
        whiteout(t->upper, "deleted");
        whiteout(t->upper, "gone");
        put(t->upper, "modified", "new", 0644);
        put(t->upper, "mode", "x", 0755);
        make_link(t->upper, "link", "new");
        make_dir(t->upper, "made", 0500);
        put(t->upper, "made/file", "made", 0640);
        apply_well(t, "D gone/sub/file\nD gone/sub\nD gone\nD deleted\n"
                      "M link\nA made\nA made/file\nM mode\nM modified\n");
        assert_false(exists(t->lower, "deleted"));
        assert_false(exists(t->lower, "gone"));
        assert_text(t->lower, "modified", "new");
        assert_text(t->lower, "made/file", "made");
        assert_int_equal(mode_of(t->lower, "mode"), S_IFREG | 0755);
        assert_int_equal(mode_of(t->lower, "made"), S_IFDIR | 0500);
        assert_int_equal(mode_of(t->lower, "made/file"), S_IFREG | 0640);
        assert_true(readlinkat(t->lower, "link", target, sizeof target) > 0);
        assert_string_equal(target, "new");
}

static void another_type_replaces_what_was_there(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "a", 0755);
        put(t->lower, "a/x", "x", 0644);
        put(t->upper, "a", "file now", 0644);
        put(t->lower, "b", "x", 0644);
        make_dir(t->upper, "b", 0755);
        put(t->upper, "b/y", "y", 0644);
        apply_well(t, "D b\nD a/x\nD a\nA a\nA b\nA b/y\n");
        assert_text(t->lower, "a", "file now");
        assert_text(t->lower, "b/y", "y");
}

static void new_entries_get_the_owner_of_the_directory_and_others_keep_theirs(void **state) {
        Trees *t = *state;
        struct stat st;

        put(t->lower, "kept", "old", 0644);
        assert_int_equal(fchownat(t->lower, "kept", 4001, 4002, 0), 0);
        assert_int_equal(fchown(t->lower, 4003, 4004), 0);
        put(t->upper, "kept", "new", 0644);
        put(t->upper, "new", "new", 0644);
        make_link(t->upper, "link", "new");
        make_dir(t->upper, "dir", 0755);
        apply_well(t, "A dir\nM kept\nA link\nA new\n");
        assert_int_equal(fstatat(t->lower, "kept", &st, 0), 0);
        assert_true(st.st_uid == 4001 && st.st_gid == 4002);
        for (size_t i = 0; i < 3; i++) {
                const char *const names[] = {"new", "link", "dir"};

                assert_int_equal(fstatat(t->lower, names[i], &st, AT_SYMLINK_NOFOLLOW), 0);
                assert_true(st.st_uid == 4003 && st.st_gid == 4004);
        }
}

static void set_user_id_bits_are_dropped(void **state) {
        Trees *t = *state;

        put(t->upper, "program", "x", 06755);
        make_dir(t->upper, "dir", 02755);
        put(t->lower, "was", "x", 0755);
        put(t->upper, "was", "x", 04755);
        apply_well(t, "A dir\nA program\n");
        assert_int_equal(mode_of(t->lower, "program"), S_IFREG | 0755);
        assert_int_equal(mode_of(t->lower, "dir"), S_IFDIR | 0755);
        assert_int_equal(mode_of(t->lower, "was"), S_IFREG | 0755);
}

static void what_is_gits_own_is_left_out_unless_asked_for(void **state) {
        _cleanup_told_ Told told = {}, asked = {};
        Trees *t = *state;
        ApplyOptions options = {
                .started_unix_us = started_now(),
                .with_git = true,
                .applied = tell_applied,
                .data = &asked,
        };

        make_dir(t->lower, ".git", 0755);
        make_dir(t->upper, ".git", 0755);
        make_dir(t->upper, ".git/hooks", 0755);
        put(t->upper, ".git/hooks/post-checkout", "#!/bin/sh\n", 0755);
        make_dir(t->upper, "sub", 0755);
        put(t->upper, "sub/.GIT", "gitdir: /elsewhere\n", 0644);
        put(t->upper, "file", "x", 0644);
        assert_int_equal(apply_as(t, &told, started_now(), false), 0);
        assert_string_equal(told.applied, "A file\nA sub\n");
        assert_int_equal(told.result.left_out, 3);
        assert_false(exists(t->lower, ".git/hooks"));
        assert_false(exists(t->lower, "sub/.GIT"));

        assert_int_equal(apply_changes(t->lower, t->upper, &options, &asked.result, &asked.err), 0);
        assert_int_equal(asked.result.left_out, 0);
        assert_true(exists(t->lower, ".git/hooks/post-checkout"));
}

static void a_check_writes_nothing(void **state) {
        _cleanup_told_ Told told = {};
        Trees *t = *state;

        put(t->upper, "new", "x", 0644);
        assert_int_equal(apply_as(t, &told, started_now(), true), 0);
        assert_int_equal(told.result.applied, 1);
        assert_string_equal(told.applied, "A new\n");
        assert_false(exists(t->lower, "new"));
}

#define CHANGED "it changed in the original after the run started\n"

static void what_changed_in_the_original_is_a_conflict(void **state) {
        Trees *t = *state;

        put(t->lower, "deleted", "x", 0644);
        put(t->lower, "modified", "x", 0644);
        put(t->lower, "appeared", "theirs", 0644);
        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/new", "x", 0644);
        whiteout(t->upper, "deleted");
        whiteout(t->upper, "dir");
        put(t->upper, "modified", "y", 0644);
        put(t->upper, "appeared", "ours", 0644);
        put(t->upper, "fine", "x", 0644);
        apply_refused(t, 1,
                      "appeared: " CHANGED "deleted: " CHANGED "dir/new: " CHANGED
                      "modified: " CHANGED);
        assert_false(exists(t->lower, "fine"));
        assert_true(exists(t->lower, "deleted"));
        assert_text(t->lower, "modified", "x");
        assert_text(t->lower, "appeared", "theirs");
}

static void what_is_equal_already_is_no_conflict(void **state) {
        _cleanup_told_ Told told = {};
        Trees *t = *state;

        put(t->lower, "appeared", "same", 0644);
        put(t->upper, "appeared", "same", 0644);
        whiteout(t->upper, "gone-in-both");
        assert_int_equal(apply_as(t, &told, 1, false), 0);
        assert_int_equal(told.result.applied, 0);
        assert_int_equal(told.result.conflicts, 0);
}

static void edit_three(int merged) {
        put(merged, "file", "new", 0644);
        put(merged, "dir/file", "new", 0644);
        put(merged, "typed", "new", 0644);
}

static void what_vanished_or_turned_into_something_else_is_a_conflict(void **state) {
        Trees *t = *state;

        put(t->lower, "file", "old", 0644);
        put(t->lower, "typed", "old", 0644);
        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/file", "old", 0644);
        in_overlay(t, edit_three);
        assert_int_equal(unlinkat(t->lower, "file", 0), 0);
        assert_int_equal(unlinkat(t->lower, "typed", 0), 0);
        make_link(t->lower, "typed", "x");
        assert_int_equal(unlinkat(t->lower, "dir/file", 0), 0);
        apply_refused(t, started_now(),
                      "dir/file: the run changed it, and it vanished from the original\n"
                      "file: the run changed it, and it vanished from the original\n"
                      "typed: it is of another type in the original than when the run started\n");
        assert_false(exists(t->lower, "file"));
}

static void move_and_link(int merged) {
        assert_int_equal(renameat(merged, "a", merged, "b"), 0);
        assert_int_equal(linkat(merged, "c", merged, "d", 0), 0);
}

static void a_file_that_the_run_moved_or_linked_is_no_conflict(void **state) {
        Trees *t = *state;

        put(t->lower, "a", "moved", 0644);
        put(t->lower, "c", "linked", 0644);
        in_overlay(t, move_and_link);
        apply_well(t, "D a\nA b\nA d\n");
        assert_text(t->lower, "b", "moved");
        assert_text(t->lower, "d", "linked");
}

static void special_files_are_refused(void **state) {
#define REFUSED "the run made a device, a socket or a FIFO, which is never applied\n"
        Trees *t = *state;

        make_node(t->upper, "fifo", S_IFIFO);
        make_node(t->upper, "null", S_IFCHR);
        make_node(t->upper, "socket", S_IFSOCK);
        apply_refused(t, started_now(), "fifo: " REFUSED "null: " REFUSED "socket: " REFUSED);
        assert_false(exists(t->lower, "fifo"));
}

static void a_link_of_the_original_is_never_written_through(void **state) {
        Trees *t = *state;
        char outside[128];

        make_dir(t->fd, "outside", 0755);
        put(t->fd, "outside/victim", "precious", 0644);
        snprintf(outside, sizeof outside, "%s/outside", t->path);
        make_link(t->lower, "dir", outside);
        make_dir(t->upper, "dir", 0755);
        put(t->upper, "dir/victim", "owned", 0644);
        whiteout(t->upper, "dir/other");
        apply_refused(t, 1, "dir: " CHANGED);
        assert_text(t->fd, "outside/victim", "precious");

        /* Had the run itself made the directory out of the link, it takes the link's place. */
        apply_well(t, "D dir\nA dir\nA dir/victim\n");
        assert_int_equal(mode_of(t->lower, "dir"), S_IFDIR | 0755);
        assert_text(t->fd, "outside/victim", "precious");
}

static void replace_nothing(int merged) {
        put(merged, "dir/file", "new", 0644);
}

static void a_directory_that_became_a_link_is_refused(void **state) {
        Trees *t = *state;
        char outside[128];

        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/file", "old", 0644);
        in_overlay(t, replace_nothing);
        make_dir(t->fd, "outside", 0755);
        put(t->fd, "outside/file", "precious", 0644);
        assert_int_equal(renameat(t->lower, "dir", t->fd, "elsewhere"), 0);
        snprintf(outside, sizeof outside, "%s/outside", t->path);
        make_link(t->lower, "dir", outside);
        apply_refused(t, started_now(),
                      "dir: it is of another type in the original than when the run started\n"
                      "dir/file: the run changed it, and it vanished from the original\n");
        assert_text(t->fd, "outside/file", "precious");
        assert_int_equal(mode_of(t->lower, "dir") & S_IFMT, S_IFLNK);
}

static void a_link_of_the_run_in_place_of_a_directory_is_only_a_link(void **state) {
        Trees *t = *state;

        make_dir(t->fd, "outside", 0755);
        put(t->fd, "outside/file", "precious", 0644);
        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/file", "x", 0644);
        make_link(t->upper, "dir", "../outside");
        apply_well(t, "D dir/file\nD dir\nA dir\n");
        assert_int_equal(mode_of(t->lower, "dir") & S_IFMT, S_IFLNK);
        assert_text(t->fd, "outside/file", "precious");
}

static void strange_names_are_applied_as_they_are(void **state) {
        Trees *t = *state;

        put(t->upper, "a\nb", "x", 0644);
        put(t->upper, "-rf ..", "x", 0644);
        apply_well(t, "A -rf ..\nA a\nb\n");
        assert_text(t->lower, "a\nb", "x");
        assert_text(t->lower, "-rf ..", "x");
}

static void an_interrupted_apply_goes_on(void **state) {
        _cleanup_told_ Told broken = {}, rest = {};
        Trees *t = *state;
        char big[300];

        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/old", "x", 0644);
        make_dir(t->upper, "dir", 0700);
        put(t->upper, "dir/first", "x", 0644);
        memset(big, 'x', sizeof big - 1);
        big[sizeof big - 1] = 0;
        put(t->upper, "dir/second", big, 0644);
        /* Something appears between the check and the write: what 'applied' is told first. */
        assert_int_equal(apply_as(t, &broken, started_now(), false), 0);
        assert_int_equal(fchmodat(t->lower, "dir", 0755, 0), 0);
        assert_int_equal(unlinkat(t->lower, "dir/second", 0), 0);
        assert_int_equal(apply_as(t, &rest, 1, false), 0);
        assert_string_equal(rest.applied, "M dir\nA dir/second\n");
        assert_int_equal(mode_of(t->lower, "dir"), S_IFDIR | 0700);
}

static void appear(const ChangeItem *item, void *data) {
        Trees *t = data;

        if (strcmp(item->path, "a") == 0)
                put(t->lower, "b", "theirs", 0644);
}

static void what_appears_meanwhile_is_not_overwritten(void **state) {
        _cleanup_error_ Error *err = NULL;
        Trees *t = *state;
        ApplyOptions options = {.started_unix_us = started_now(), .applied = appear, .data = t};
        ApplyResult result;

        put(t->upper, "a", "ours", 0644);
        put(t->upper, "b", "ours", 0644);
        assert_int_equal(apply_changes(t->lower, t->upper, &options, &result, &err), -EEXIST);
        assert_non_null(strstr(err->what, "cannot write 'b'"));
        assert_non_null(strstr(err->hint, "apply again"));
        assert_text(t->lower, "a", "ours");
        assert_text(t->lower, "b", "theirs");
}

/* Applies all but what is protected, and what is approved again. Twice is as once. */
static void apply_keeping(Trees *t, const char *approve, const char *applied, const char *kept) {
        char ci[] = ".github/**", vscode[] = "**/.vscode/**", file[] = "Jenkinsfile", approved[64];
        char *protect[] = {ci, vscode, file}, *approvals[] = {approved};
        _cleanup_told_ Told told = {}, again = {};
        ApplyOptions options = {
                .started_unix_us = started_now(),
                .protected = {protect, ELEMENTSOF(protect), approvals, approve ? 1 : 0},
                .applied = tell_applied,
                .conflict = tell_conflict,
                .kept = tell_kept,
                .data = &told,
        };

        snprintf(approved, sizeof approved, "%s", approve ?: "");
        if (apply_changes(t->lower, t->upper, &options, &told.result, &told.err) < 0)
                fail_msg("%s", told.err->what);
        assert_string_equal(told.applied, applied);
        assert_string_equal(told.kept, kept);
        options.data = &again;
        assert_int_equal(apply_changes(t->lower, t->upper, &options, &again.result, NULL), 0);
        assert_string_equal(again.applied, "");
        assert_string_equal(again.kept, kept);
        assert_int_equal(again.result.kept, told.result.kept);
}

static void edit_ci(int dir) {
        put(dir, ".github/ci.yml", "new\n", 0644);
        put(dir, ".github/more.yml", "new\n", 0644);
        make_dir(dir, ".vscode", 0755);
        put(dir, ".vscode/tasks.json", "new\n", 0644);
        put(dir, "src", "new\n", 0644);
}

static void protected_changes_are_left_out_unless_approved(void **state) {
        Trees *t = *state;

        make_dir(t->lower, ".github", 0755);
        put(t->lower, ".github/ci.yml", "old\n", 0644);
        put(t->lower, "src", "old\n", 0644);
        in_overlay(t, edit_ci);
        apply_keeping(t, NULL, "A .vscode\nM src\n",
                      ".github/ci.yml\n.github/more.yml\n.vscode/tasks.json\n");
        assert_text(t->lower, ".github/ci.yml", "old\n");
        apply_keeping(t, ".github/ci.yml", "M .github/ci.yml\n",
                      ".github/more.yml\n.vscode/tasks.json\n");
        assert_text(t->lower, ".github/ci.yml", "new\n");
        assert_false(exists(t->lower, ".github/more.yml"));
}

static void edit_away(int dir) {
        assert_int_equal(fchdir(dir), 0);
        assert_int_equal(system("rm -r sub && touch sub && rm -r .github other && "
                                "ln -s /elsewhere .github && rm Jenkinsfile && "
                                "mkdir Jenkinsfile && touch Jenkinsfile/x"),
                         0);
}

static void what_holds_a_protected_path_stays_with_it(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "sub", 0755);
        make_dir(t->lower, "sub/deep", 0755);
        make_dir(t->lower, "sub/deep/.vscode", 0755);
        put(t->lower, "sub/deep/.vscode/tasks.json", "old\n", 0644);
        put(t->lower, "sub/deep/file", "old\n", 0644);
        make_dir(t->lower, "sub/gone", 0755);
        make_dir(t->lower, ".github", 0755);
        put(t->lower, ".github/ci.yml", "old\n", 0644);
        make_dir(t->lower, "other", 0755);
        put(t->lower, "Jenkinsfile", "old\n", 0644);
        in_overlay(t, edit_away);
        apply_keeping(t, NULL, "D sub/gone\nD sub/deep/file\nD other\n",
                      ".github/ci.yml\n.github\nJenkinsfile\nJenkinsfile\nJenkinsfile/x\n"
                      "sub/deep/.vscode/tasks.json\nsub\n.github\nsub\nsub/deep\n"
                      "sub/deep/.vscode\n");
        assert_text(t->lower, "sub/deep/.vscode/tasks.json", "old\n");
        assert_text(t->lower, "Jenkinsfile", "old\n");
        assert_false(exists(t->lower, "sub/deep/file"));
        apply_keeping(t, "**",
                      "D sub/deep/.vscode/tasks.json\nD sub/deep/.vscode\nD sub/deep\n"
                      "D sub\nD Jenkinsfile\nD .github/ci.yml\nD .github\nA .github\n"
                      "A Jenkinsfile\nA Jenkinsfile/x\nA sub\n",
                      "");
        assert_true(S_ISLNK(mode_of(t->lower, ".github")));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TREES_TEST(changes_of_every_kind_are_applied_once),
                TREES_TEST(another_type_replaces_what_was_there),
                TREES_TEST(new_entries_get_the_owner_of_the_directory_and_others_keep_theirs),
                TREES_TEST(set_user_id_bits_are_dropped),
                TREES_TEST(protected_changes_are_left_out_unless_approved),
                TREES_TEST(what_holds_a_protected_path_stays_with_it),
                TREES_TEST(what_is_gits_own_is_left_out_unless_asked_for),
                TREES_TEST(a_check_writes_nothing),
                TREES_TEST(what_changed_in_the_original_is_a_conflict),
                TREES_TEST(what_is_equal_already_is_no_conflict),
                TREES_TEST(what_vanished_or_turned_into_something_else_is_a_conflict),
                TREES_TEST(a_file_that_the_run_moved_or_linked_is_no_conflict),
                TREES_TEST(special_files_are_refused),
                TREES_TEST(a_link_of_the_original_is_never_written_through),
                TREES_TEST(a_directory_that_became_a_link_is_refused),
                TREES_TEST(a_link_of_the_run_in_place_of_a_directory_is_only_a_link),
                TREES_TEST(strange_names_are_applied_as_they_are),
                TREES_TEST(an_interrupted_apply_goes_on),
                TREES_TEST(what_appears_meanwhile_is_not_overwritten),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
