#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void a_failed_call_carries_its_errno_and_its_text(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(error_set(&e, ENOENT, "cannot open '%s'", "/x"), -ENOENT);
        assert_int_equal(e->code, ENOENT);
        assert_string_equal(e->what, "cannot open '/x': No such file or directory");
        assert_null(e->hint);
}

static void a_refusal_says_only_what_it_says(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(error_refuse(&e, EINVAL, "do that", "no '%d'", 7), -EINVAL);
        assert_string_equal(e->what, "no '7'");
        assert_string_equal(e->hint, "do that");
}

static void wrapping_puts_the_callers_object_in_front(void **state) {
        _cleanup_error_ Error *e = NULL;
        int r = error_set(&e, EACCES, "cannot read");

        assert_int_equal(error_wrap(&e, r, "run '%s'", "a"), -EACCES);
        assert_string_equal(e->what, "run 'a': cannot read: Permission denied");
}

static void wrapping_nothing_makes_an_error(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(error_wrap(&e, -EIO, "reading"), -EIO);
        assert_string_equal(e->what, "reading: Input/output error");
}

static void the_deeper_layers_hint_and_field_stay(void **state) {
        _cleanup_error_ Error *e = NULL;

        error_refuse(&e, EINVAL, "deep", "x");
        error_hint(&e, -EINVAL, "shallow");
        error_field(&e, -EINVAL, "checks[%d]", 1);
        error_field(&e, -EINVAL, "other");
        assert_string_equal(e->hint, "deep");
        assert_string_equal(e->field, "checks[1]");
}

static void an_error_that_stands_is_not_overwritten(void **state) {
        _cleanup_error_ Error *e = NULL;

        error_refuse(&e, EINVAL, NULL, "first");
        assert_int_equal(error_refuse(&e, EIO, NULL, "second"), -EIO);
        assert_string_equal(e->what, "first");
}

static void control_characters_do_not_reach_a_terminal(void **state) {
        _cleanup_error_ Error *e = NULL;
        char text[256] = {0};
        FILE *f = fmemopen(text, sizeof text, "w");

        error_refuse(&e, EINVAL, "h\x07", "bad name '\x1b[2J'");
        error_print(f, "carrel", e);
        fclose(f);
        assert_string_equal(text, "carrel: bad name '\\x1b[2J'\n  hint: h\\x07\n");
}

static void a_call_that_the_kernel_lacks_names_the_likely_cause(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(error_set(&e, ENOSYS, "cannot do '%s'", "it"), -ENOSYS);
        assert_string_equal(e->what, "cannot do 'it': Function not implemented");
        assert_non_null(strstr(e->hint, "older than Linux 5.19"));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_call_that_the_kernel_lacks_names_the_likely_cause),
                cmocka_unit_test(a_failed_call_carries_its_errno_and_its_text),
                cmocka_unit_test(a_refusal_says_only_what_it_says),
                cmocka_unit_test(wrapping_puts_the_callers_object_in_front),
                cmocka_unit_test(wrapping_nothing_makes_an_error),
                cmocka_unit_test(the_deeper_layers_hint_and_field_stay),
                cmocka_unit_test(an_error_that_stands_is_not_overwritten),
                cmocka_unit_test(control_characters_do_not_reach_a_terminal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
