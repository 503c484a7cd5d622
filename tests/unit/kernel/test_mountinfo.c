#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "kernel/mountinfo.h"

static void a_line_is_read_and_its_target_unescaped(void **state) {
        char text[] = "36 35 98:0 / /a\\040b\\012c\\134d rw,noatime master:1 - ext4 /dev/a rw\n"
                      "7 36 0:5 / /plain ro - tmpfs none ro\n";
        char *rest = text;
        MountInfo m;

        assert_int_equal(mountinfo_next(&rest, &m), 1);
        assert_int_equal(m.id, 36);
        assert_string_equal(m.target, "/a b\nc\\d");
        assert_string_equal(m.options, "rw,noatime");
        assert_string_equal(m.type, "ext4");
        assert_int_equal(mountinfo_next(&rest, &m), 1);
        assert_int_equal(m.id, 7);
        assert_string_equal(m.target, "/plain");
        assert_string_equal(m.type, "tmpfs");
        assert_int_equal(mountinfo_next(&rest, &m), 0);
        assert_int_equal(mountinfo_next(&rest, &m), 0);
}

static void what_is_no_escape_stays(void **state) {
        char text[] = "1 2 0:1 / /a\\9\\04 rw - t s rw", *rest = text;
        MountInfo m;

        assert_int_equal(mountinfo_next(&rest, &m), 1);
        assert_string_equal(m.target, "/a\\9\\04");
}

static void a_line_without_its_parts_is_refused(void **state) {
        char short_text[] = "36 35 98:0 / /a - ext4 b rw", *short_rest = short_text;
        char whole_text[] = "36 35 98:0 / /a rw ext4 b rw", *whole_rest = whole_text;
        MountInfo m;

        assert_int_equal(mountinfo_next(&short_rest, &m), -EBADMSG);
        assert_int_equal(mountinfo_next(&whole_rest, &m), -EBADMSG);
}

static void an_option_is_a_whole_word(void **state) {
        assert_true(mountinfo_has("ro,nosuid,nodev", "ro"));
        assert_true(mountinfo_has("ro,nosuid,nodev", "nosuid"));
        assert_true(mountinfo_has("ro,nosuid,nodev", "nodev"));
        assert_false(mountinfo_has("rw,nosuid,nodev", "ro"));
        assert_false(mountinfo_has("rw,nosuidx,errors=ro", "nosuid"));
        assert_false(mountinfo_has("rw,nosuidx,errors=ro", "ro"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_line_is_read_and_its_target_unescaped),
                cmocka_unit_test(what_is_no_escape_stays),
                cmocka_unit_test(a_line_without_its_parts_is_refused),
                cmocka_unit_test(an_option_is_a_whole_word),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
