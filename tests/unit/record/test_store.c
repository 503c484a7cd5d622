#include "record/store.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "scratch.h"

/* printf hello | sha256sum */
#define HELLO      "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define HELLO_PATH "sha256/2c/f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static int source(const char *text) {
        int fd = memfd_create("source", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
        return fd;
}

static void what_is_put_is_found_by_its_digest(void **state) {
        _cleanup_close_ int from = source("say hello!"), fd = -EBADF;
        _cleanup_free_ char *digest = NULL;
        Scratch *s = *state;
        char text[16] = {};
        struct stat st;

        assert_int_equal(store_put(s->fd, from, 4, 5, HELLO, &digest, NULL), 0);
        assert_string_equal(digest, HELLO);
        fd = store_open(s->fd, HELLO, NULL);
        assert_true(fd >= 0);
        assert_int_equal(fd_read_all(fd, text, sizeof text), 5);
        assert_string_equal(text, "hello");
        assert_int_equal(fstatat(s->fd, HELLO_PATH, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0444);
        assert_int_equal(st.st_nlink, 1);
}

static void the_same_bytes_are_stored_once(void **state) {
        _cleanup_close_ int from = source("hellohello");
        Scratch *s = *state;
        struct stat before, after;

        assert_int_equal(store_put(s->fd, from, 0, 5, NULL, NULL, NULL), 0);
        assert_int_equal(fstatat(s->fd, HELLO_PATH, &before, 0), 0);
        assert_int_equal(store_put(s->fd, from, 5, 5, NULL, NULL, NULL), 0);
        assert_int_equal(fstatat(s->fd, HELLO_PATH, &after, 0), 0);
        assert_int_equal(before.st_ino, after.st_ino);
}

static void another_digest_than_expected_is_refused(void **state) {
        _cleanup_close_ int from = source("jello");
        _cleanup_error_ Error *err = NULL;
        _cleanup_free_ char *digest = NULL;
        Scratch *s = *state;

        assert_int_equal(store_put(s->fd, from, 0, 5, HELLO, &digest, &err), -EBADMSG);
        assert_non_null(strstr(err->what, "not '" HELLO "'"));
        assert_null(digest);
        assert_int_equal(faccessat(s->fd, "sha256", F_OK, 0), -1);
}

static void a_source_that_ends_early_is_refused(void **state) {
        _cleanup_close_ int from = source("hell");
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;

        assert_int_equal(store_put(s->fd, from, 0, 5, NULL, NULL, &err), -ENODATA);
        assert_non_null(strstr(err->what, "fewer than 5 bytes"));
        assert_int_equal(faccessat(s->fd, "sha256", F_OK, 0), -1);
}

static void a_pipe_is_no_source(void **state) {
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;
        int p[2];

        assert_int_equal(pipe(p), 0);
        assert_int_equal(store_put(s->fd, p[0], 0, 5, NULL, NULL, &err), -ESPIPE);
        fd_close_many(p, 2);
}

static void a_missing_artifact_is_named(void **state) {
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;

        assert_int_equal(store_open(s->fd, HELLO, &err), -ENOENT);
        assert_non_null(strstr(err->what, "'" HELLO "'"));
}

static void nothing_but_a_digest_becomes_a_path(void **state) {
        static const char *const bad[] = {
                "",
                "sha256",
                "sha256:",
                "sha256:2cf24dba",
                "SHA256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                "sha256:2CF24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                "sha256:../../../../../../../../../../../../../../../../../../../etc/pass",
                HELLO "0",
        };
        Scratch *s = *state;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ Error *err = NULL;

                assert_int_equal(store_open(s->fd, bad[i], &err), -EINVAL);
                assert_non_null(strstr(err->what, "is no digest"));
                assert_non_null(strstr(err->hint, "sha256:"));
        }
}

static void a_link_in_the_store_is_not_followed(void **state) {
        _cleanup_error_ Error *err = NULL;
        Scratch *s = *state;

        assert_int_equal(mkdirat(s->fd, "sha256", 0755), 0);
        assert_int_equal(mkdirat(s->fd, "sha256/2c", 0755), 0);
        assert_int_equal(symlinkat("/etc/passwd", s->fd, HELLO_PATH), 0);
        assert_int_equal(store_open(s->fd, HELLO, &err), -ELOOP);
}

int main(void) {
#define SCRATCH_TEST(t) cmocka_unit_test_setup_teardown(t, scratch_setup, scratch_teardown)
        const struct CMUnitTest tests[] = {
                SCRATCH_TEST(what_is_put_is_found_by_its_digest),
                SCRATCH_TEST(the_same_bytes_are_stored_once),
                SCRATCH_TEST(another_digest_than_expected_is_refused),
                SCRATCH_TEST(a_source_that_ends_early_is_refused),
                SCRATCH_TEST(a_pipe_is_no_source),
                SCRATCH_TEST(a_missing_artifact_is_named),
                SCRATCH_TEST(nothing_but_a_digest_becomes_a_path),
                SCRATCH_TEST(a_link_in_the_store_is_not_followed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
