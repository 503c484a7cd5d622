#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "shim/mask.h"

/* Feeds @text in pieces of @piece bytes and gathers what comes out. */
static char *feed(const Mask *m, const char *text, size_t piece) {
        MaskState *s = mask_state_new(m);
        size_t size = strlen(text), have = 0;
        char *all = calloc(1, size * 4 + 64);
        const char *data;
        size_t n;

        for (size_t at = 0; at < size; at += piece) {
                assert_int_equal(
                        mask_feed(s, text + at, MIN_OF(piece, size - at), false, &data, &n), 0);
                memcpy(all + have, n ? data : "", n);
                have += n;
        }
        assert_int_equal(mask_feed(s, NULL, 0, true, &data, &n), 0);
        memcpy(all + have, n ? data : "", n);
        mask_state_free(s);
        return all;
}

static void a_value_is_hidden_however_it_arrives(void **state) {
        const char *text = "a s3cr3t-value b s3cr3t-valu s3cr3t-values3cr3t-value end";
        Mask *m = mask_new();

        assert_int_equal(mask_add(m, "s3cr3t-value", 12), 0);
        for (size_t piece = 1; piece < 40; piece++) {
                _cleanup_free_ char *out = feed(m, text, piece);

                assert_string_equal(out, "a [masked] b s3cr3t-valu [masked][masked] end");
        }
        mask_free(m);
}

static void the_longer_of_two_values_wins(void **state) {
        Mask *m = mask_new();
        _cleanup_free_ char *out = NULL;

        assert_int_equal(mask_add(m, "token", 5), 0);
        assert_int_equal(mask_add(m, "token-extended", 14), 0);
        out = feed(m, "x token-extended token-ext token", 1);
        assert_string_equal(out, "x [masked] [masked]-ext [masked]");
        mask_free(m);
}

static void a_files_last_newline_is_not_part_of_the_value(void **state) {
        Mask *m = mask_new();
        _cleanup_free_ char *out = NULL;

        assert_int_equal(mask_add(m, "hunter2!\n", 9), 0);
        out = feed(m, "[hunter2!]", 3);
        assert_string_equal(out, "[[masked]]");
        mask_free(m);
}

static void the_lines_of_a_key_are_hidden_one_by_one(void **state) {
        const char *key =
                "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nshort\nAQEFAASCBKcwggSjAgEAAoI\n";
        Mask *m = mask_new();
        _cleanup_free_ char *out = NULL;

        assert_int_equal(mask_add(m, key, strlen(key)), 0);
        out = feed(m, "> MIIEvQIBADANBgkqhkiG9w0 < short AQEFAASCBKcwggSjAgEAAoI", 7);
        assert_string_equal(out, "> [masked] < short [masked]");
        mask_free(m);
}

static void a_value_too_short_to_hide_is_refused(void **state) {
        Mask *m = mask_new();

        assert_int_equal(mask_add(m, "abc\n", 4), -EINVAL);
        assert_int_equal(mask_add(m, "", 0), -EINVAL);
        mask_free(m);
}

static void without_values_bytes_pass_untouched(void **state) {
        Mask *m = mask_new();
        _cleanup_free_ char *out = feed(m, "anything", 2);

        assert_string_equal(out, "anything");
        assert_false(mask_contains(m, "anything", 8));
        mask_free(m);
}

static void a_prompt_is_not_held_back(void **state) {
        Mask *m = mask_new();
        MaskState *s = mask_state_new(m);
        const char *data;
        size_t n;

        assert_int_equal(mask_add(m, "s3cr3t", 6), 0);
        assert_int_equal(mask_feed(s, "name: ", 6, false, &data, &n), 0);
        assert_int_equal(n, 6);
        assert_int_equal(mask_feed(s, "s3", 2, false, &data, &n), 0);
        assert_int_equal(n, 0); /* could be the beginning */
        assert_int_equal(mask_feed(s, "x", 1, false, &data, &n), 0);
        assert_int_equal(n, 3);
        mask_state_free(s);
        mask_free(m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_value_is_hidden_however_it_arrives),
                cmocka_unit_test(the_longer_of_two_values_wins),
                cmocka_unit_test(a_files_last_newline_is_not_part_of_the_value),
                cmocka_unit_test(the_lines_of_a_key_are_hidden_one_by_one),
                cmocka_unit_test(a_value_too_short_to_hide_is_refused),
                cmocka_unit_test(without_values_bytes_pass_untouched),
                cmocka_unit_test(a_prompt_is_not_held_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
