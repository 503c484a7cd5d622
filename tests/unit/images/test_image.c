/* Definitions, and the directories made of them, over a small tree that plays the host. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "images/image.h"
#include "proto/text/text.h"

static const char *const definitions[] = {DEFINITIONS_DIR, NULL};

/* host/: what is copied and shown; state/: where images are made. */
typedef struct Place {
        char path[64];
        int host_fd, state_fd;
} Place;

static void put(int dir_fd, const char *path, const char *text, mode_t mode) {
        _cleanup_error_ Error *err = NULL;

        if (file_create_at(dir_fd, path, 0600, text, strlen(text), &err) < 0)
                fail_msg("%s", err->what);
        assert_int_equal(fchmodat(dir_fd, path, mode, 0), 0);
}

static int directory(int dir_fd, const char *path, mode_t mode) {
        int fd;

        assert_int_equal(mkdirat(dir_fd, path, 0700), 0);
        assert_int_equal(fchmodat(dir_fd, path, mode, 0), 0);
        fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(fd >= 0);
        return fd;
}

#define TEST_USER (&(ImageUser){"agent", geteuid() ?: 1000, geteuid() ?: 1000})

static int setup(void **state) {
        Place *p = calloc(1, sizeof *p);
        _cleanup_close_ int fd = -EBADF, etc = -EBADF, usr = -EBADF;

        umask(022);
        strcpy(p->path, "/tmp/test-image-XXXXXX");
        assert_non_null(mkdtemp(p->path));
        fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        p->state_fd = directory(fd, "state", 0700);
        p->host_fd = directory(fd, "host", 0755);
        usr = directory(p->host_fd, "usr", 0755);
        etc = directory(p->host_fd, "etc", 0755);
        put(etc, "plain", "plain\n", 0644);
        put(etc, "program", "#!/bin/sh\n", 04755);
        put(etc, "secret", "secret\n", 0640);
        assert_int_equal(symlinkat("/usr/share/zone", etc, "link"), 0);
        assert_int_equal(mkfifoat(etc, "fifo", 0644), 0);
        fd_close(directory(etc, "private", 0700));
        fd_close(directory(etc, "sub", 0755));
        put(etc, "sub/deep", "deep\n", 0444);
        *state = p;
        return 0;
}

static int teardown(void **state) {
        Place *p = *state;

        fd_close(p->host_fd);
        fd_close(p->state_fd);
        assert_int_equal(fd_remove_tree(AT_FDCWD, p->path, NULL), 0);
        free(p);
        return 0;
}

/* A definition in which "HOST" stands for the host's directory. */
static Image *define(const Place *p, const char *format) {
        _cleanup_error_ Error *err = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        void *m = NULL;
        FILE *f = open_memstream(&text, &size);

        for (const char *c = format; *c; c++)
                if (strncmp(c, "HOST", 4) == 0) {
                        fprintf(f, "%s/host", p->path);
                        c += 3;
                } else {
                        fputc(*c, f);
                }
        fclose(f);
        if (text_parse("image.yaml", text, size, &carrel__v1__image__descriptor, &m, NULL, &err) <
            0)
                fail_msg("%s", err->what);
        return m;
}

static int make(const Place *p, const char *text) {
        _cleanup_message_ Image *image = define(p, text);
        _cleanup_error_ Error *err = NULL;
        int fd = -EBADF;

        if (image_materialize(p->state_fd, image, TEST_USER, &fd, &err) < 0)
                fail_msg("%s", err->what);
        return fd;
}

/* @path of the host's tree inside the image. */
static const char *inside(const Place *p, const char *path) {
        static char whole[256];

        snprintf(whole, sizeof whole, "%s/host%s", p->path + 1, path);
        return whole;
}

static void expect_text(int root_fd, const char *path, const char *part) {
        _cleanup_error_ Error *err = NULL;
        _cleanup_free_ char *text = NULL;

        if (file_read_at(root_fd, path, 64 * KIB, &text, NULL, &err) < 0)
                fail_msg("%s", err->what);
        if (!strstr(text, part))
                fail_msg("'%s' holds '%s'", path, text);
}

static mode_t mode_of(int root_fd, const char *path) {
        struct stat st;

        return fstatat(root_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : st.st_mode;
}

static void the_shipped_definition_loads(void **state) {
        _cleanup_message_ Image *image = NULL;
        _cleanup_error_ Error *err = NULL;

        if (image_load(definitions, "host", &image, &err) < 0)
                fail_msg("%s", err->what);
        assert_string_equal(image->bind[0], "/usr");
        assert_string_equal(image->links[0]->path, "/bin");
        assert_string_equal(image->links[0]->target, "usr/bin");
}

static void an_unknown_name_is_refused_with_those_there_are(void **state) {
        _cleanup_message_ Image *image = NULL;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(image_load(definitions, "hots", &image, &err), -ENOENT);
        assert_string_equal(err->what, "there is no image 'hots'");
        assert_string_equal(err->hint, "did you mean 'host'? images: host");
}

static void a_name_that_is_a_path_is_refused(void **state) {
        static const char *const names[] = {"../host", "/etc/host", "", ".host", "a b", "Host"};

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_message_ Image *image = NULL;
                _cleanup_error_ Error *err = NULL;

                assert_int_equal(image_load(definitions, names[i], &image, &err), -EINVAL);
                assert_non_null(strstr(err->what, "is not an image's name"));
        }
}

static void copies_keep_content_modes_and_links(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, copy: [HOST/etc]}");
        char target[64] = {0};

        expect_text(fd, inside(p, "/etc/plain"), "plain\n");
        expect_text(fd, inside(p, "/etc/sub/deep"), "deep\n");
        assert_int_equal(mode_of(fd, inside(p, "/etc/sub/deep")), S_IFREG | 0444);
        assert_int_equal(readlinkat(fd, inside(p, "/etc/link"), target, sizeof target - 1), 15);
        assert_string_equal(target, "/usr/share/zone");
}

static void a_copy_loses_set_user_id(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, copy: [HOST/etc/program]}");

        assert_int_equal(mode_of(fd, inside(p, "/etc/program")), S_IFREG | 0755);
}

static void what_others_cannot_read_and_special_files_stay_out(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd =
                make(p, "{name: t, copy: [HOST/etc, HOST/etc/secret, HOST/etc/fifo]}");

        assert_int_equal(mode_of(fd, inside(p, "/etc/secret")), 0);
        assert_int_equal(mode_of(fd, inside(p, "/etc/private")), 0);
        assert_int_equal(mode_of(fd, inside(p, "/etc/fifo")), 0);
}

static void a_missing_copy_is_left_out(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, copy: [HOST/no/such, HOST/etc/plain]}");

        assert_int_equal(mode_of(fd, inside(p, "/no")), 0);
        assert_int_equal(mode_of(fd, inside(p, "/etc/plain")), S_IFREG | 0644);
}

static void a_missing_bind_is_refused(void **state) {
        const Place *p = *state;
        _cleanup_message_ Image *image = define(p, "{name: t, bind: [/no/such]}");
        _cleanup_error_ Error *err = NULL;
        int fd = -EBADF;

        assert_int_equal(image_materialize(p->state_fd, image, TEST_USER, &fd, &err), -ENOENT);
        assert_string_equal(
                err->what,
                "image 't': cannot show '/no/such' of the host: No such file or directory");
        assert_string_equal(err->hint,
                            "create it, or drop it from 'bind' of the image's definition");
        /* Nothing half-made is left. */
        assert_int_equal(mode_of(p->state_fd, "images/.new"), 0);
}

static void a_root_has_its_directories_users_and_links(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, bind: [HOST/usr, HOST/etc/plain], links: "
                                         "[{path: /bin, target: usr/bin}], "
                                         "directories: [/srv/x]}");
        char line[64];

        assert_int_equal(mode_of(fd, "."), S_IFDIR | 0755);
        assert_int_equal(mode_of(fd, "proc"), S_IFDIR | 0755);
        assert_int_equal(mode_of(fd, "tmp"), S_IFDIR | 01777);
        assert_int_equal(mode_of(fd, "var/tmp"), S_IFDIR | 01777);
        assert_int_equal(mode_of(fd, "srv/x"), S_IFDIR | 0755);
        assert_int_equal(mode_of(fd, inside(p, "/usr")), S_IFDIR | 0755);
        assert_int_equal(mode_of(fd, inside(p, "/etc/plain")), S_IFREG | 0644);
        assert_true(S_ISLNK(mode_of(fd, "bin")));
        snprintf(line, sizeof line, "\nagent:x:%u:", geteuid() ?: 1000);
        expect_text(fd, "etc/passwd", line);
        expect_text(fd, "etc/group", line);
        expect_text(fd, "etc/hosts", "127.0.0.1 localhost carrel\n");
        expect_text(fd, "etc/hostname", "carrel\n");
        expect_text(fd, "etc/nsswitch.conf", "passwd: files\n");
}

static void the_harness_owns_its_home_and_workspace(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, directories: [/x]}");
        struct stat st;

        assert_int_equal(fstatat(fd, "home/agent", &st, 0), 0);
        assert_int_equal(st.st_uid, geteuid() ?: 1000);
        assert_int_equal(fstatat(fd, "workspace", &st, 0), 0);
        assert_int_equal(st.st_gid, geteuid() ?: 1000);
        assert_int_equal(fstatat(fd, "etc", &st, 0), 0);
        assert_int_equal(st.st_uid, geteuid());
}

static ino_t inode_of(int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        return st.st_ino;
}

static void an_image_is_made_once_until_a_source_changes(void **state) {
        const Place *p = *state;
        const char *text = "{name: t, copy: [HOST/etc]}";
        _cleanup_close_ int first = make(p, text), again = make(p, text), changed = -EBADF;

        assert_int_equal(inode_of(first), inode_of(again));
        assert_int_equal(unlinkat(p->host_fd, "etc/plain", 0), 0);
        put(p->host_fd, "etc/plain", "other\n", 0644);
        changed = make(p, text);
        assert_int_not_equal(inode_of(first), inode_of(changed));
        expect_text(changed, inside(p, "/etc/plain"), "other\n");
        /* A live workspace keeps what it has. */
        expect_text(first, inside(p, "/etc/plain"), "plain\n");
}

static void a_link_that_is_replaced_is_a_change(void **state) {
        const Place *p = *state;
        const char *text = "{name: t, copy: [HOST/etc]}";
        _cleanup_close_ int first = make(p, text), changed = -EBADF;

        assert_int_equal(unlinkat(p->host_fd, "etc/link", 0), 0);
        assert_int_equal(symlinkat("/usr/share/zont", p->host_fd, "etc/link"), 0);
        changed = make(p, text);
        assert_int_not_equal(inode_of(first), inode_of(changed));
}

static void a_file_that_is_written_in_place_is_a_change(void **state) {
        const Place *p = *state;
        const char *text = "{name: t, copy: [HOST/etc]}";
        _cleanup_close_ int first = make(p, text), changed = -EBADF;
        _cleanup_error_ Error *err = NULL;

        assert_int_equal(fchmodat(p->host_fd, "etc/sub/deep", 0644, 0), 0);
        assert_int_equal(file_write_at(p->host_fd, "etc/sub/deep", "DEEP\n", &err), 0);
        changed = make(p, text);
        assert_int_not_equal(inode_of(first), inode_of(changed));
        expect_text(changed, inside(p, "/etc/sub/deep"), "DEEP\n");
}

static void a_maker_that_died_leaves_nothing_in_the_way(void **state) {
        const Place *p = *state;
        _cleanup_close_ int half = -EBADF, fd = -EBADF;

        fd_close(directory(p->state_fd, "images", 0711));
        half = directory(p->state_fd, "images/.new", 0700);
        put(half, "junk", "junk", 0600);
        fd = make(p, "{name: t, copy: [HOST/etc]}");
        assert_int_equal(mode_of(fd, "junk"), 0);
}

static void many_may_make_the_same_image_at_once(void **state) {
        const Place *p = *state;
        int status;

        for (int i = 0; i < 8; i++)
                if (fork() == 0) {
                        _cleanup_message_ Image *image = define(p, "{name: t, copy: [HOST/etc]}");
                        int fd = -EBADF;

                        _exit(image_materialize(p->state_fd, image, TEST_USER, &fd, NULL) < 0 ||
                              mode_of(fd, "etc/nsswitch.conf") == 0);
                }
        for (int i = 0; i < 8; i++) {
                assert_true(wait(&status) > 0);
                assert_int_equal(status, 0);
        }
}

static void too_much_to_copy_is_refused(void **state) {
        const Place *p = *state;
        _cleanup_message_ Image *image = define(p, "{name: t, copy: [HOST/large]}");
        _cleanup_error_ Error *err = NULL;
        int fd = -EBADF;

        put(p->host_fd, "large", "", 0644);
        fd = openat(p->host_fd, "large", O_WRONLY | O_CLOEXEC);
        assert_int_equal(ftruncate(fd, (off_t)(64 * MIB + 1)), 0);
        fd = fd_close(fd);
        assert_int_equal(image_materialize(p->state_fd, image, TEST_USER, &fd, &err), -E2BIG);
        assert_non_null(strstr(err->what, "the image's copies exceed 16384 entries or 64MiB"));
        assert_string_equal(err->hint, "show large trees with 'bind' instead of copying them");
}

static void a_root_is_used_as_it_is(void **state) {
        const Place *p = *state;
        _cleanup_close_ int fd = make(p, "{name: t, root: HOST}");

        assert_int_equal(inode_of(fd), inode_of(p->host_fd));
        assert_int_equal(mode_of(p->host_fd, "etc/passwd"), 0);
        assert_int_equal(mode_of(p->state_fd, "images"), 0);
}

static void each_wrong_definition_is_refused_with_its_field(void **state) {
        static const char *const wrong[][3] = {
                {"{name: t}", "image 't' shows nothing of the host", "root"},
                {"{name: t, root: /a, bind: [/b]}", "image 't' has a root and parts of one",
                 "root"},
                {"{name: ../t, root: /a}", "'../t' is not an image's name", "name"},
                {"{name: t, root: a}", "image root 'a' is not an absolute path", "root"},
                {"{name: t, bind: [/usr/]}", "'/usr/' is not an absolute path", "bind[0]"},
                {"{name: t, bind: [/]}", "'/' is not an absolute path", "bind[0]"},
                {"{name: t, copy: [/a, /a/../b]}", "'/a/../b' is not an absolute path", "copy[1]"},
                {"{name: t, directories: [x]}", "'x' is not an absolute path", "directories[0]"},
                {"{name: t, links: [{path: bin, target: x}]}", "'bin' is not an absolute path",
                 "links[0]"},
                {"{name: t, links: [{path: /bin}]}", "link '/bin' leads nowhere",
                 "links[0].target"},
        };
        const Place *p = *state;

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                _cleanup_message_ Image *image = define(p, wrong[i][0]);
                _cleanup_error_ Error *err = NULL;
                int fd = -EBADF;

                assert_int_equal(image_materialize(p->state_fd, image, TEST_USER, &fd, &err),
                                 -EINVAL);
                assert_non_null(strstr(err->what, wrong[i][1]));
                assert_string_equal(err->field, wrong[i][2]);
                assert_non_null(err->hint);
        }
}

static void the_digest_is_of_the_definition(void **state) {
        const Place *p = *state;
        _cleanup_message_ Image *a = define(p, "{name: t, bind: [/usr]}"),
                                *b = define(p, "{name: t, bind: [/opt]}");
        _cleanup_free_ char *da = NULL, *again = NULL, *db = NULL;

        assert_int_equal(image_digest(a, &da, NULL), 0);
        assert_int_equal(image_digest(a, &again, NULL), 0);
        assert_int_equal(image_digest(b, &db, NULL), 0);
        assert_string_equal(da, again);
        assert_string_not_equal(da, db);
        assert_int_equal(strlen(da), strlen("sha256:") + 64);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_shipped_definition_loads),
                cmocka_unit_test(an_unknown_name_is_refused_with_those_there_are),
                cmocka_unit_test(a_name_that_is_a_path_is_refused),
                IN_PLACE(copies_keep_content_modes_and_links),
                IN_PLACE(a_copy_loses_set_user_id),
                IN_PLACE(what_others_cannot_read_and_special_files_stay_out),
                IN_PLACE(a_missing_copy_is_left_out),
                IN_PLACE(a_missing_bind_is_refused),
                IN_PLACE(a_root_has_its_directories_users_and_links),
                IN_PLACE(the_harness_owns_its_home_and_workspace),
                IN_PLACE(an_image_is_made_once_until_a_source_changes),
                IN_PLACE(a_link_that_is_replaced_is_a_change),
                IN_PLACE(a_file_that_is_written_in_place_is_a_change),
                IN_PLACE(a_maker_that_died_leaves_nothing_in_the_way),
                IN_PLACE(many_may_make_the_same_image_at_once),
                IN_PLACE(too_much_to_copy_is_refused),
                IN_PLACE(a_root_is_used_as_it_is),
                IN_PLACE(each_wrong_definition_is_refused_with_its_field),
                IN_PLACE(the_digest_is_of_the_definition),
        };

        return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
