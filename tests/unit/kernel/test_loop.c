#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/loop.h"

static int open_file(void) {
        int fd = open("/var/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, MIB), 0);
        return fd;
}

/* A device that was let go of is unbound by whoever closes it last: udev may be that. */
static void assert_unbound(int file_fd) {
        char path[LOOP_PATH_MAX];
        int r = 0;

        for (unsigned i = 0; i < 500 && r != -ENODEV; i++) {
                r = loop_find(file_fd, path, NULL);
                if (r >= 0)
                        close(r);
                usleep(1000);
        }
        assert_int_equal(r, -ENODEV);
}

static void what_is_written_to_the_device_is_in_its_file(void **state) {
        _cleanup_close_ int file = open_file(), device = -EBADF;
        char path[LOOP_PATH_MAX], got[5] = "";

        device = loop_attach(file, path, NULL);
        assert_true(device >= 0);
        assert_int_equal(strncmp(path, "/dev/loop", 9), 0);
        assert_int_equal(pwrite(device, "hello", 5, 4096), 5);
        assert_int_equal(fsync(device), 0);
        assert_int_equal(pread(file, got, 5, 4096), 5);
        assert_memory_equal(got, "hello", 5);
        device = fd_close(device);
        assert_unbound(file);
}

static void each_file_has_a_device_and_is_found_by_it(void **state) {
        int files[4], devices[4];
        char paths[4][LOOP_PATH_MAX], found[LOOP_PATH_MAX];

        for (size_t i = 0; i < 4; i++) {
                files[i] = open_file();
                devices[i] = loop_attach(files[i], paths[i], NULL);
                assert_true(devices[i] >= 0);
        }
        for (size_t i = 0; i < 4; i++) {
                int device = loop_find(files[i], found, NULL);

                assert_true(device >= 0);
                assert_string_equal(found, paths[i]);
                close(device);
        }
        fd_close_many(devices, 4);
        for (size_t i = 0; i < 4; i++)
                assert_unbound(files[i]);
        fd_close_many(files, 4);
}

static void a_file_without_a_device_is_none_and_no_error(void **state) {
        _cleanup_close_ int file = open_file();
        _cleanup_error_ Error *e = NULL;
        char path[LOOP_PATH_MAX];

        assert_int_equal(loop_find(file, path, &e), -ENODEV);
        assert_null(e);
}

static void what_is_no_file_is_refused(void **state) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        _cleanup_error_ Error *e = NULL;
        char path[LOOP_PATH_MAX];

        assert_int_equal(loop_attach(null, path, &e), -EINVAL);
        assert_string_equal(e->what, "cannot make a loop device: Invalid argument");
        assert_non_null(strstr(e->hint, "module 'loop'"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_written_to_the_device_is_in_its_file),
                cmocka_unit_test(each_file_has_a_device_and_is_found_by_it),
                cmocka_unit_test(a_file_without_a_device_is_none_and_no_error),
                cmocka_unit_test(what_is_no_file_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
