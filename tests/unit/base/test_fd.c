#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/fd.h"

/* A directory of the test's own, removed by the very function that is tested last. */
typedef struct Scratch {
        char path[64];
        int fd;
} Scratch;

static int scratch_setup(void **state) {
        Scratch *s = calloc(1, sizeof *s);

        strcpy(s->path, "/tmp/carrel-test-fd-XXXXXX");
        assert_non_null(mkdtemp(s->path));
        s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = s;
        return s->fd < 0;
}

static int scratch_teardown(void **state) {
        Scratch *s = *state;
        int r = fd_remove_tree(AT_FDCWD, s->path, NULL);

        fd_close(s->fd);
        free(s);
        return r;
}

static void a_path_with_dots_stays_inside_its_root(void **state) {
        const Scratch *s = *state;
        _cleanup_close_ int fd = -EBADF;
        struct stat a, b;

        assert_int_equal(mkdirat(s->fd, "etc", 0755), 0);
        fd = path_open_in_root(s->fd, "/../../etc", O_PATH | O_DIRECTORY, NULL);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &a), 0);
        assert_int_equal(fstatat(s->fd, "etc", &b, 0), 0);
        assert_int_equal(a.st_ino, b.st_ino);
}

static void an_absolute_link_is_resolved_inside_its_root(void **state) {
        const Scratch *s = *state;
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(symlinkat("/etc/hostname", s->fd, "link"), 0);
        assert_int_equal(path_open_in_root(s->fd, "link", O_RDONLY, &e), -ENOENT);
        assert_non_null(strstr(e->what, "'link'"));
}

static void beneath_follows_no_link_at_all(void **state) {
        const Scratch *s = *state;

        assert_int_equal(file_create_at(s->fd, "file", 0600, "x", 1, NULL), 0);
        assert_int_equal(symlinkat("file", s->fd, "alias"), 0);
        assert_int_equal(path_open_beneath(s->fd, "alias", O_RDONLY, 0), -ELOOP);
        assert_int_equal(path_open_beneath(s->fd, "../x", O_RDONLY, 0), -EXDEV);
}

static void directories_are_made_through_no_link(void **state) {
        const Scratch *s = *state;
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        assert_int_equal(symlinkat("/tmp", s->fd, "out"), 0);
        assert_true(path_make_dirs_in_root(s->fd, "out/evil", 0755, 0, 0, &e) < 0);
        assert_non_null(strstr(e->what, "'out'"));
        fd = path_make_dirs_in_root(s->fd, "a/b/c", 0755, 0, 0, NULL);
        assert_true(fd >= 0);
        assert_int_equal(fstatat(s->fd, "a/b/c", &st, 0), 0);
        error_freep(&e);
        assert_int_equal(path_make_dirs_in_root(s->fd, "a/../../x", 0755, 0, 0, &e), -EINVAL);
}

static void a_file_over_its_limit_is_refused(void **state) {
        const Scratch *s = *state;
        _cleanup_error_ Error *e = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size;

        assert_int_equal(file_create_at(s->fd, "ten", 0600, "0123456789", 10, NULL), 0);
        assert_int_equal(file_read_at(s->fd, "ten", 9, &data, &size, &e), -EFBIG);
        assert_non_null(strstr(e->what, "larger than 9 bytes"));
        assert_int_equal(file_read_at(s->fd, "ten", 10, &data, &size, NULL), 0);
        assert_int_equal(size, 10);
        assert_string_equal(data, "0123456789");
}

static void a_tree_is_removed_and_what_its_links_name_is_not(void **state) {
        const Scratch *s = *state;
        _cleanup_close_ int deep = path_make_dirs_in_root(s->fd, "tree/x/y", 0755, 0, 0, NULL);
        struct stat st;

        assert_int_equal(file_create_at(s->fd, "keep", 0600, "", 0, NULL), 0);
        assert_int_equal(symlinkat("../../../keep", deep, "link"), 0);
        assert_int_equal(fd_remove_tree(s->fd, "tree", NULL), 0);
        assert_int_equal(fstatat(s->fd, "tree", &st, 0), -1);
        assert_int_equal(fstatat(s->fd, "keep", &st, 0), 0);
        assert_int_equal(fd_remove_tree(s->fd, "tree", NULL), 0); /* again: nothing to do */
}

static void a_sealed_file_cannot_be_written(void **state) {
        _cleanup_close_ int fd = fd_memfd_sealed("test", "abc", 3);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 0), -1);
}

static void a_digest_is_sha256_and_says_so(void **state) {
        const Scratch *s = *state;
        _cleanup_close_ int fd = -EBADF;
        uint8_t digest[DIGEST_SIZE];
        char text[DIGEST_TEXT_SIZE];
        uint64_t size;

        assert_int_equal(file_create_at(s->fd, "abc", 0600, "xabcx", 5, NULL), 0);
        fd = openat(s->fd, "abc", O_RDONLY | O_CLOEXEC);
        assert_int_equal(digest_copy(fd, 1, 3, -EBADF, digest, &size), 0);
        digest_text(digest, text);
        /* FIPS 180-2, appendix B.1 */
        assert_string_equal(
                text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_int_equal(size, 3);
        assert_int_equal(digest_copy(fd, 1, 9, -EBADF, digest, &size), -ENODATA);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_path_with_dots_stays_inside_its_root,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(an_absolute_link_is_resolved_inside_its_root,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(beneath_follows_no_link_at_all, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test_setup_teardown(directories_are_made_through_no_link, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test_setup_teardown(a_file_over_its_limit_is_refused, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test_setup_teardown(a_tree_is_removed_and_what_its_links_name_is_not,
                                                scratch_setup, scratch_teardown),
                cmocka_unit_test_setup_teardown(a_sealed_file_cannot_be_written, scratch_setup,
                                                scratch_teardown),
                cmocka_unit_test_setup_teardown(a_digest_is_sha256_and_says_so, scratch_setup,
                                                scratch_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
