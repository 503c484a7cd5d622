/* Replays a fuzz target's corpus: a crash once found stays fixed. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "base/fd.h"
#include "fuzz/fuzz.h"

static void every_input_of_the_corpus_is_survived(void **state) {
        DIR *dir = opendir(CORPUS_DIR);
        struct dirent *de;
        size_t n = 0;

        assert_non_null(dir);
        while ((de = readdir(dir))) {
                _cleanup_free_ char *data = NULL;
                size_t size;

                if (de->d_name[0] == '.')
                        continue;
                assert_int_equal(file_read_at(dirfd(dir), de->d_name, 8 * MIB, &data, &size, NULL),
                                 0);
                assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)data, size), 0);
                n++;
        }
        closedir(dir);
        assert_int_not_equal(n, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_input_of_the_corpus_is_survived),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
