/* Landlock, tried by root: what is denied here nothing else denies. Each wall is a child's. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "kernel/landlock.h"

/* The directory of a test; a child works in it. */
static char place[] = "/tmp/test-landlock-XXXXXX";

static int setup(void **state) {
        if (!mkdtemp(place) || chdir(place) < 0)
                return -1;
        return mkdir("open", 0755) < 0 || mkdir("shut", 0755) < 0 ||
               close(open("shut/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)) < 0;
}

static int teardown(void **state) {
        static const char *const files[] = {"open/moved", "open/new", "open/sub/new", "shut/file"};
        static const char *const directories[] = {"open/sub", "open", "shut"};

        for (size_t i = 0; i < sizeof files / sizeof *files; i++)
                (void)unlink(files[i]);
        for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
                (void)rmdir(directories[i]);
        return rmdir(place);
}

/* Return: 0, or errno. */
static int try_open(const char *path, int flags) {
        int fd = open(path, flags | O_CLOEXEC, 0644);

        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

/* What @attempt says in a child behind the wall of @raise: 0, or the line that was not as wanted.
 */
static int behind(int (*raise)(Error **reterr), int (*attempt)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || raise(NULL) < 0)
                        _exit(255);
                _exit(attempt());
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

#define WANT(wanted, got)                                                                          \
        do {                                                                                       \
                if ((got) != (wanted))                                                             \
                        return __LINE__;                                                           \
        } while (0)

static int raise_writes(Error **reterr) {
        char open_place[] = "open", missing[] = "missing";

        return landlock_allow_writes((char *[]){missing, open_place}, 2, reterr);
}

static int attempt_writes(void) {
        WANT(0, try_open("open/new", O_CREAT | O_WRONLY));
        WANT(0, mkdir("open/sub", 0755));
        WANT(0, rename("open/new", "open/sub/new"));
        WANT(0, try_open("shut/file", O_RDONLY));
        WANT(EACCES, try_open("shut/file", O_WRONLY));
        WANT(EACCES, try_open("shut/new", O_CREAT | O_WRONLY));
        WANT(-1, mkdir("shut/sub", 0755));
        WANT(-1, unlink("shut/file"));
        WANT(-1, rename("shut/file", "open/moved"));
        WANT(-1, symlink("x", "shut/link"));
        return 0;
}

static int attempt_anything(void) {
        WANT(EACCES, try_open("shut/file", O_RDONLY));
        WANT(EACCES, try_open("open/other", O_CREAT | O_WRONLY));
        WANT(EACCES, try_open("/", O_RDONLY | O_DIRECTORY));
        return 0;
}

static void need_landlock(void) {
        if (landlock_version() == 0) {
                fprintf(stderr, "skipped: this kernel has no Landlock\n");
                skip();
        }
}

static void files_are_written_below_the_named_places_alone(void **state) {
        need_landlock();
        assert_int_equal(behind(raise_writes, attempt_writes), 0);
}

static void whoever_forbids_all_opens_nothing(void **state) {
        need_landlock();
        assert_int_equal(behind(landlock_forbid_all, attempt_anything), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_are_written_below_the_named_places_alone),
                cmocka_unit_test(whoever_forbids_all_opens_nothing),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
