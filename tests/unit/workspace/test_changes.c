#include "workspace/changes.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "trees.h"

static int collect(const ChangeItem *item, void *data) {
        FILE *f = data;

        fprintf(f, "%c%s %s\n", "?AMD"[item->kind], item -> origin ? "o" : "", item->path);
        assert_int_equal(item->has_lower, item->kind != CARREL__V1__CHANGE_KIND__CHANGE_KIND_ADDED);
        assert_int_equal(item->has_upper,
                         item->kind != CARREL__V1__CHANGE_KIND__CHANGE_KIND_DELETED);
        return 0;
}

static char *changes(Trees *t) {
        _cleanup_error_ Error *err = NULL;
        char *list = NULL;
        size_t size;
        FILE *f = open_memstream(&list, &size);

        if (changes_walk(t->lower, t->upper, collect, f, &err) < 0)
                fail_msg("%s", err->what);
        fclose(f);
        return list;
}

#define assert_changes(t, expected)                                                                \
        do {                                                                                       \
                _cleanup_free_ char *_list = changes(t);                                           \
                assert_string_equal(_list, expected);                                              \
        } while (0)

static void an_empty_upper_is_no_change(void **state) {
        Trees *t = *state;

        put(t->lower, "file", "text", 0644);
        assert_changes(t, "");
}

static void files_are_added_modified_and_deleted(void **state) {
        Trees *t = *state;

        put(t->lower, "bytes", "aaaa", 0644);
        put(t->lower, "gone", "text", 0644);
        put(t->lower, "mode", "text", 0644);
        put(t->lower, "same", "text", 0644);
        put(t->lower, "size", "text", 0644);
        put(t->upper, "bytes", "aaab", 0644);
        put(t->upper, "mode", "text", 0755);
        put(t->upper, "new", "text", 0644);
        put(t->upper, "same", "text", 0644);
        put(t->upper, "size", "text and more", 0644);
        whiteout(t->upper, "gone");
        whiteout(t->upper, "was-never-there");
        assert_changes(t, "M bytes\nD gone\nM mode\nA new\nM size\n");
}

static void a_whiteout_may_be_an_attribute(void **state) {
        Trees *t = *state;

        put(t->lower, "gone", "text", 0644);
        put(t->lower, "emptied", "text", 0644);
        put(t->upper, "gone", "", 0644);
        put(t->upper, "emptied", "", 0644);
        set_xattr(t->upper, "gone", "trusted.overlay.whiteout", "y");
        assert_changes(t, "M emptied\nD gone\n");
}

static void a_removed_directory_is_listed_with_what_it_held(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "d", 0755);
        make_dir(t->lower, "d/e", 0755);
        put(t->lower, "d/e/f", "x", 0644);
        put(t->lower, "d/g", "x", 0644);
        whiteout(t->upper, "d");
        assert_changes(t, "D d\nD d/e\nD d/e/f\nD d/g\n");
}

static void a_new_directory_is_listed_with_what_it_holds(void **state) {
        Trees *t = *state;

        make_dir(t->upper, "d", 0755);
        make_dir(t->upper, "d/e", 0755);
        put(t->upper, "d/e/f", "x", 0644);
        whiteout(t->upper, "d/e/nothing");
        assert_changes(t, "A d\nA d/e\nA d/e/f\n");
}

static void a_merged_directory_is_a_change_only_by_its_permissions(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "same", 0755);
        make_dir(t->upper, "same", 0755);
        make_dir(t->lower, "mode", 0755);
        make_dir(t->upper, "mode", 0700);
        put(t->lower, "mode/kept", "x", 0644);
        put(t->upper, "mode/new", "x", 0644);
        assert_changes(t, "M mode\nA mode/new\n");
}

static void below_an_opaque_directory_nothing_shows_through(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "d", 0755);
        make_dir(t->lower, "d/sub", 0755);
        put(t->lower, "d/sub/gone", "x", 0644);
        put(t->lower, "d/sub/same", "x", 0644);
        put(t->lower, "d/gone", "x", 0644);
        make_dir(t->upper, "d", 0755);
        set_xattr(t->upper, "d", "trusted.overlay.opaque", "y");
        make_dir(t->upper, "d/sub", 0755);
        put(t->upper, "d/sub/same", "x", 0644);
        put(t->upper, "d/new", "x", 0644);
        assert_changes(t, "D d/gone\nA d/new\nD d/sub/gone\n");
}

/* A user without root makes overlays whose notes are user.overlay.*; from anybody else these are a
 * file's own attributes, which an agent may set. */
static void notes_of_a_user_count_in_the_users_own_upper_only(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "d", 0755);
        put(t->lower, "d/gone", "x", 0644);
        put(t->lower, "whiteout", "x", 0644);
        make_dir(t->upper, "d", 0755);
        put(t->upper, "whiteout", "", 0644);
        set_xattr(t->upper, "d", "user.overlay.opaque", "y");
        set_xattr(t->upper, "whiteout", "user.overlay.whiteout", "y");
        assert_changes(t, "D d/gone\nD whiteout\n");
        assert_int_equal(fchown(t->upper, 1879049192, 1879049192), 0);
        assert_changes(t, "M whiteout\n");
}

static void a_move_is_believed_where_the_origin_has_no_handle(void **state) {
        Trees *t = *state;

        put(t->lower, "from", "text", 0644);
        put(t->upper, "to", "text", 0644);
        assert_int_equal(changes_origin_is(t->upper, "to", t->lower, "from"), 0);
        set_xattr(t->upper, "to", "user.overlay.origin", "");
        assert_int_equal(changes_origin_is(t->upper, "to", t->lower, "from"), 1);
}

static void another_value_of_the_opaque_attribute_is_not_opaque(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "d", 0755);
        put(t->lower, "d/kept", "x", 0644);
        make_dir(t->upper, "d", 0755);
        set_xattr(t->upper, "d", "trusted.overlay.opaque", "x");
        assert_changes(t, "");
}

static void another_type_is_deleted_and_added(void **state) {
        Trees *t = *state;

        make_dir(t->lower, "dir-to-file", 0755);
        put(t->lower, "dir-to-file/x", "x", 0644);
        put(t->upper, "dir-to-file", "x", 0644);
        put(t->lower, "file-to-dir", "x", 0644);
        make_dir(t->upper, "file-to-dir", 0755);
        put(t->upper, "file-to-dir/y", "x", 0644);
        put(t->lower, "file-to-link", "x", 0644);
        make_link(t->upper, "file-to-link", "x");
        assert_changes(t, "D dir-to-file\nD dir-to-file/x\nA dir-to-file\n"
                          "D file-to-dir\nA file-to-dir\nA file-to-dir/y\n"
                          "D file-to-link\nA file-to-link\n");
}

static void links_are_compared_by_target_and_never_followed(void **state) {
        Trees *t = *state;

        make_link(t->lower, "same", "/etc");
        make_link(t->upper, "same", "/etc");
        make_link(t->lower, "other", "/etc");
        make_link(t->upper, "other", "/usr");
        make_link(t->lower, "prefix", "/etc");
        make_link(t->upper, "prefix", "/et");
        make_link(t->lower, "shorter", "/et");
        make_link(t->upper, "shorter", "/etc");
        make_dir(t->lower, "dir", 0755);
        put(t->lower, "dir/x", "x", 0644);
        make_link(t->upper, "dir", "/etc");
        make_link(t->lower, "target", "/etc");
        make_dir(t->upper, "target", 0755);
        put(t->upper, "target/passwd", "x", 0644);
        assert_changes(t, "D dir\nD dir/x\nA dir\nM other\nM prefix\nM shorter\n"
                          "D target\nA target\nA target/passwd\n");
}

static void special_files_are_passed_on(void **state) {
        Trees *t = *state;

        make_node(t->upper, "fifo", S_IFIFO);
        make_node(t->upper, "null", S_IFCHR);
        make_node(t->upper, "socket", S_IFSOCK);
        put(t->lower, "was-file", "x", 0644);
        make_node(t->upper, "was-file", S_IFIFO);
        assert_changes(t, "A fifo\nA null\nA socket\nD was-file\nA was-file\n");
}

static void names_are_data(void **state) {
        Trees *t = *state;

        put(t->upper, "a\nb", "x", 0644);
        put(t->upper, "\x01\xff", "x", 0644);
        put(t->upper, " ", "x", 0644);
        put(t->upper, "...", "x", 0644);
        assert_changes(t, "A \x01\xff\nA  \nA ...\nA a\nb\n");
}

static int refuse(const ChangeItem *item, void *data) {
        ++*(int *)data;
        return -ECANCELED;
}

static void what_the_caller_refuses_ends_the_walk(void **state) {
        Trees *t = *state;
        int n = 0;

        put(t->upper, "a", "x", 0644);
        put(t->upper, "b", "x", 0644);
        assert_int_equal(changes_walk(t->lower, t->upper, refuse, &n, NULL), -ECANCELED);
        assert_int_equal(n, 1);
}

static int ignore(const ChangeItem *item, void *data) {
        return 0;
}

/* Directories @name in one another, @depth of them. */
static void nest(int root, const char *name, unsigned depth) {
        int fd = fcntl(root, F_DUPFD_CLOEXEC, 3);

        for (unsigned i = 0; i < depth; i++) {
                int next;

                assert_int_equal(mkdirat(fd, name, 0755), 0);
                next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                fd_close(fd);
                fd = next;
        }
        fd_close(fd);
}

static void deep_trees_are_refused(void **state) {
        _cleanup_error_ Error *err = NULL;
        Trees *t = *state;

        nest(t->upper, "d", 127);
        assert_int_equal(changes_walk(t->lower, t->upper, ignore, NULL, NULL), 0);
        nest(t->upper, "e", 128);
        assert_int_equal(changes_walk(t->lower, t->upper, ignore, NULL, &err), -E2BIG);
        assert_non_null(strstr(err->what, "nested more than 128 deep"));
        assert_non_null(err->hint);
}

static void long_paths_are_refused(void **state) {
        _cleanup_error_ Error *err = NULL;
        Trees *t = *state;
        char name[251];

        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = 0;
        nest(t->upper, name, 17);
        assert_int_equal(changes_walk(t->lower, t->upper, ignore, NULL, &err), -E2BIG);
        assert_non_null(strstr(err->what, "longer than 4095 bytes"));
}

static void edit(int merged) {
        put(merged, "modified", "other", 0644);
        put(merged, "temporary", "renamed over", 0644);
        assert_int_equal(renameat(merged, "temporary", merged, "replaced"), 0);
        assert_int_equal(unlinkat(merged, "deleted", 0), 0);
        assert_int_equal(unlinkat(merged, "dir/file", 0), 0);
        assert_int_equal(unlinkat(merged, "dir/sub", AT_REMOVEDIR), 0);
        assert_int_equal(unlinkat(merged, "dir", AT_REMOVEDIR), 0);
        assert_int_equal(mkdirat(merged, "dir", 0755), 0);
        put(merged, "dir/new", "x", 0644);
        assert_int_equal(fchmodat(merged, "mode", 0755, 0), 0);
        make_link(merged, "link", "target");
        assert_int_equal(linkat(merged, "linked", merged, "second", 0), 0);
        assert_int_equal(renameat(merged, "moved", merged, "moved-here"), 0);
        put(merged, "touched", "text", 0644);
        put(merged, "merge/added", "x", 0644);
        assert_int_equal(mknodat(merged, "fifo", S_IFIFO | 0644, 0), 0);
}

static void a_real_overlay_is_read_as_it_was_edited(void **state) {
        static const char *const files[] = {
                "deleted", "linked",   "mode",    "modified",
                "moved",   "replaced", "touched", "untouched",
        };
        Trees *t = *state;

        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                put(t->lower, files[i], "text", 0644);
        make_dir(t->lower, "dir", 0755);
        make_dir(t->lower, "dir/sub", 0755);
        put(t->lower, "dir/file", "x", 0644);
        make_dir(t->lower, "merge", 0755);
        put(t->lower, "merge/kept", "x", 0644);
        in_overlay(t, edit);
        assert_changes(
                t, "D deleted\nD dir/file\nA dir/new\nD dir/sub\nA fifo\nA link\nA merge/added\n"
                   "Mo mode\nMo modified\nD moved\nAo moved-here\nM replaced\nAo second\n");
        assert_int_equal(changes_origin_is(t->upper, "moved-here", t->lower, "moved"), 1);
        assert_int_equal(changes_origin_is(t->upper, "moved-here", t->lower, "deleted"), 0);
        assert_int_equal(changes_origin_is(t->upper, "replaced", t->lower, "replaced"), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                TREES_TEST(an_empty_upper_is_no_change),
                TREES_TEST(files_are_added_modified_and_deleted),
                TREES_TEST(a_whiteout_may_be_an_attribute),
                TREES_TEST(a_removed_directory_is_listed_with_what_it_held),
                TREES_TEST(a_new_directory_is_listed_with_what_it_holds),
                TREES_TEST(a_merged_directory_is_a_change_only_by_its_permissions),
                TREES_TEST(below_an_opaque_directory_nothing_shows_through),
                TREES_TEST(another_value_of_the_opaque_attribute_is_not_opaque),
                TREES_TEST(notes_of_a_user_count_in_the_users_own_upper_only),
                TREES_TEST(a_move_is_believed_where_the_origin_has_no_handle),
                TREES_TEST(another_type_is_deleted_and_added),
                TREES_TEST(links_are_compared_by_target_and_never_followed),
                TREES_TEST(special_files_are_passed_on),
                TREES_TEST(names_are_data),
                TREES_TEST(what_the_caller_refuses_ends_the_walk),
                TREES_TEST(deep_trees_are_refused),
                TREES_TEST(long_paths_are_refused),
                TREES_TEST(a_real_overlay_is_read_as_it_was_edited),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
