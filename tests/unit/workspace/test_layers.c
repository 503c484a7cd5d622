#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/loop.h"
#include "workspace/layers.h"
#include "workspace/volume.h"

#define BYTES (32 * MIB)
#define FILES 2000
#define OWNER 123456

typedef struct Fixture {
        char path[64];
        int state_fd, run_fd;
} Fixture;

static int fixture_setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);

        strcpy(f->path, "/var/tmp/carrel-test-layers-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->state_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(mkdirat(f->state_fd, "run", 0700), 0);
        f->run_fd = openat(f->state_fd, "run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = f;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *f = *state;

        fd_close(f->run_fd);
        fd_close(f->state_fd);
        assert_int_equal(fd_remove_tree(AT_FDCWD, f->path, NULL), 0);
        free(f);
        return 0;
}

static LayersSpec spec_of(const Fixture *f) {
        return (LayersSpec){
                .state_fd = f->state_fd,
                .run_fd = f->run_fd,
                .bytes = BYTES,
                .files = FILES,
                .root_uid = OWNER,
                .source = true,
                .source_uid = OWNER + 1000,
                .source_mode = 0750,
        };
}

static Layers acquire(const Fixture *f) {
        LayersSpec spec = spec_of(f);
        _cleanup_error_ Error *degraded = NULL, *e = NULL;
        Layers layers;

        if (layers_acquire(&spec, &layers, &degraded, &e) < 0 || degraded)
                fail_msg("%s", e ? e->what : degraded->what);
        return layers;
}

static bool has(int dir_fd, const char *path) {
        return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void write_file(int dir_fd, const char *path, size_t size) {
        _cleanup_free_ char *data = malloc(size);

        memset(data, 'x', size);
        assert_int_equal(file_create_at(dir_fd, path, 0644, data, size, NULL), 0);
}

/* The device of a run's volume, or -ENODEV. */
static int device_of(const Fixture *f, const char *name, char path[static LOOP_PATH_MAX]) {
        _cleanup_close_ int image = openat(f->run_fd, name, O_RDWR | O_CLOEXEC);
        int device;

        assert_true(image >= 0);
        device = loop_find(image, path, NULL);
        return device < 0 ? device : (close(device), 0);
}

static void assert_unbound(const Fixture *f, const char *name) {
        char path[LOOP_PATH_MAX];

        for (unsigned i = 0; i < 2000 && device_of(f, name, path) != -ENODEV; i++)
                usleep(1000);
        assert_int_equal(device_of(f, name, path), -ENODEV);
}

static void layers_belong_to_whom_they_are_for(void **state) {
        Layers layers = acquire(*state);
        struct stat st;

        assert_true(layers.limited);
        assert_int_equal(fstatat(layers.fd, "root/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, OWNER);
        assert_int_equal(fstatat(layers.fd, "source/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, OWNER + 1000);
        assert_int_equal(st.st_mode & 07777, 0750);
        assert_true(has(layers.fd, "source/work"));
        assert_false(has(layers.fd, "lost+found"));
        close(layers.fd);
}

static void a_volume_holds_its_limit_and_no_more(void **state) {
        Layers layers = acquire(*state);
        _cleanup_close_ int file =
                openat(layers.fd, "root/upper/fill", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char block[64 * KIB] = "";
        struct statfs fs;
        uint64_t written = 0;
        ssize_t n;

        assert_int_equal(fstatfs(layers.fd, &fs), 0);
        assert_in_range(fs.f_files, FILES, FILES + 200);
        while ((n = write(file, block, sizeof block)) > 0)
                written += (uint64_t)n;
        assert_int_equal(errno, ENOSPC);
        assert_in_range(written, BYTES * 97 / 100, BYTES - 1);
        close(layers.fd);
}

static void there_is_one_device_however_often_it_is_opened(void **state) {
        const Fixture *f = *state;
        Layers first = acquire(f), second, third;
        char before[LOOP_PATH_MAX], after[LOOP_PATH_MAX];

        assert_int_equal(device_of(f, VOLUME_NAME, before), 0);
        write_file(first.fd, "source/upper/made", 10);
        assert_int_equal(layers_open(f->run_fd, &second, NULL), 0);
        assert_int_equal(layers_open(f->run_fd, &third, NULL), 0);
        assert_true(second.limited && has(second.fd, "source/upper/made"));
        assert_int_equal(file_create_at(third.fd, "source/upper/more", 0644, "", 0, NULL), -EROFS);
        close(first.fd);
        assert_int_equal(device_of(f, VOLUME_NAME, after), 0);
        assert_string_equal(before, after);
        close(second.fd);
        close(third.fd);
        assert_unbound(f, VOLUME_NAME);
}

static void changes_are_kept_and_all_else_is_given_back(void **state) {
        const Fixture *f = *state;
        Layers layers = acquire(f);
        struct stat st;

        write_file(layers.fd, "root/upper/large", 8 * MIB);
        write_file(layers.fd, "source/upper/made", 10);
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
        close(layers.fd);
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
        assert_false(has(f->run_fd, VOLUME_NAME));
        assert_unbound(f, VOLUME_KEPT);
        assert_int_equal(fstatat(f->run_fd, VOLUME_KEPT, &st, 0), 0);
        assert_true((uint64_t)st.st_blocks * 512 < MIB);
        assert_int_equal(layers_open(f->run_fd, &layers, NULL), 0);
        assert_true(has(layers.fd, "source/upper/made"));
        assert_false(has(layers.fd, "source/work") || has(layers.fd, "root"));
        close(layers.fd);
        assert_unbound(f, VOLUME_KEPT);
}

static void without_changes_an_empty_directory_is_all_that_is_kept(void **state) {
        const Fixture *f = *state;
        Layers layers = acquire(f);
        struct stat st;

        write_file(layers.fd, "root/upper/file", 10);
        close(layers.fd);
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
        assert_false(has(f->run_fd, VOLUME_NAME) || has(f->run_fd, VOLUME_KEPT));
        assert_int_equal(layers_open(f->run_fd, &layers, NULL), 0);
        assert_false(layers.limited);
        assert_int_equal(fstatat(layers.fd, "source/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, OWNER + 1000);
        close(layers.fd);
}

static void a_limit_that_no_volume_can_hold_is_measured_and_that_is_said(void **state) {
        const Fixture *f = *state;
        LayersSpec spec = spec_of(f);
        _cleanup_error_ Error *degraded = NULL;
        Layers layers;

        spec.bytes = 16384 * GIB;
        assert_int_equal(layers_acquire(&spec, &layers, &degraded, NULL), 0);
        assert_false(layers.limited);
        assert_int_equal(degraded->code, EFBIG);
        assert_string_equal(degraded->what, "the disk limit is only measured, and overrun for a "
                                            "moment: a volume holds up to 8192 GiB");
        assert_string_equal(degraded->hint, "lower 'filesystem.disk'");
        assert_true(has(layers.fd, "source/upper"));
        assert_false(has(f->run_fd, VOLUME_NAME));
        close(layers.fd);
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
        assert_true(has(f->run_fd, "layers/source/upper"));
        assert_false(has(f->run_fd, "layers/root"));
}

static void a_run_without_layers_has_none(void **state) {
        const Fixture *f = *state;
        _cleanup_error_ Error *e = NULL;
        Layers layers;

        assert_int_equal(volume_open(f->run_fd, false, &e), -ENOENT);
        assert_null(e);
        assert_int_equal(layers_open(f->run_fd, &layers, &e), -ENOENT);
        assert_string_equal(e->what, "cannot open the run's layers: No such file or directory");
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
}

static void an_image_that_is_none_is_refused_and_kept(void **state) {
        const Fixture *f = *state;
        _cleanup_error_ Error *e = NULL;
        Layers layers;

        write_file(f->run_fd, VOLUME_NAME, MIB);
        assert_int_equal(layers_open(f->run_fd, &layers, &e), -EUCLEAN);
        assert_non_null(strstr(e->what, "the run's volume is damaged: '/"));
        assert_non_null(strstr(e->hint, "e2fsck -f"));
        assert_int_equal(layers_release(f->run_fd, NULL), 0);
        assert_true(has(f->run_fd, VOLUME_KEPT));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(layers_belong_to_whom_they_are_for),
                TEST(a_volume_holds_its_limit_and_no_more),
                TEST(there_is_one_device_however_often_it_is_opened),
                TEST(changes_are_kept_and_all_else_is_given_back),
                TEST(without_changes_an_empty_directory_is_all_that_is_kept),
                TEST(a_limit_that_no_volume_can_hold_is_measured_and_that_is_said),
                TEST(a_run_without_layers_has_none),
                TEST(an_image_that_is_none_is_refused_and_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
