#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "proto/text/base64.h"
#include "proto/text/suggest.h"
#include "proto/text/text.h"
#include "proto/text/units.h"
#include "proto/text/utf8.h"

typedef int (*Parse)(const char *s, size_t n, uint64_t *ret);

static void expect_number(Parse parse, const char *text, uint64_t value) {
        uint64_t v = ~value;

        if (parse(text, strlen(text), &v) < 0 || v != value)
                fail_msg("'%s' is %llu, not %llu", text, (unsigned long long)v,
                         (unsigned long long)value);
}

static void expect_error(Parse parse, const char *text, int error) {
        uint64_t v;
        int r = parse(text, strlen(text), &v);

        if (r != error)
                fail_msg("'%s' gives %d, not %d", text, r, error);
}

static void sizes_are_exact(void **state) {
        expect_number(units_parse_size, "0", 0);
        expect_number(units_parse_size, "512", 512);
        expect_number(units_parse_size, "64KiB", 65536);
        expect_number(units_parse_size, "4GiB", 4 * GIB);
        expect_number(units_parse_size, "1.5GiB", 3 * GIB / 2);
        expect_number(units_parse_size, "0.001kB", 1);
        expect_number(units_parse_size, "2GB", 2000000000);
        expect_number(units_parse_size, "18446744073709551615", UINT64_MAX);
        expect_error(units_parse_size, "18446744073709551616", -ERANGE);
        expect_error(units_parse_size, "16EiB", -ERANGE);
        expect_error(units_parse_size, "0.3KiB", -ERANGE); /* 307.2 */
        expect_error(units_parse_size, "0.0000000000000000001GiB", -ERANGE);
}

static void what_is_no_size_is_refused(void **state) {
        static const char *const texts[] = {"",     "4 apples", "4 GiB", "GiB",  "-1",
                                            "+1",   "1.KiB",    ".5KiB", "1.5",  "007",
                                            "4gib", "4GiB ",    "1e3",   "0x10", "4KB"};

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                expect_error(units_parse_size, texts[i], -EINVAL);
}

static void durations_are_exact(void **state) {
        expect_number(units_parse_duration, "0s", 0);
        expect_number(units_parse_duration, "250ms", 250000);
        expect_number(units_parse_duration, "90s", 90 * USEC_PER_SEC);
        expect_number(units_parse_duration, "1h30m", 5400 * USEC_PER_SEC);
        expect_number(units_parse_duration, "2d", 2 * 86400 * USEC_PER_SEC);
        expect_number(units_parse_duration, "1.5s", 1500000);
        expect_number(units_parse_duration, "1m0.5s", 60500000);
        expect_number(units_parse_duration, "213503982d8h1m49s551ms615us", UINT64_MAX);
        expect_error(units_parse_duration, "213503982d8h1m49s551ms616us", -ERANGE);
        expect_error(units_parse_duration, "0.5us", -ERANGE);
}

static void what_is_no_duration_is_refused(void **state) {
        static const char *const texts[] = {"",     "30",   "0",      "s",       "30m1h",
                                            "1h1h", "1 h",  "1h 30m", "1.5h30m", "-1s",
                                            "1S",   "1min", "h1",     "5m3",     "1.s"};

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                expect_error(units_parse_duration, texts[i], -EINVAL);
}

static void times_are_rfc_3339(void **state) {
        expect_number(units_parse_time, "1970-01-01T00:00:00Z", 0);
        expect_number(units_parse_time, "2000-02-29T23:59:59.5Z", UINT64_C(951868799500000));
        expect_number(units_parse_time, "2026-01-31T12:00:00.000000Z", UINT64_C(1769860800000000));
        expect_number(units_parse_time, "2100-03-01T00:00:00.000001000Z",
                      UINT64_C(4107542400000001));
        expect_error(units_parse_time, "1969-12-31T23:59:59Z", -ERANGE);
        expect_error(units_parse_time, "2026-01-31T12:00:00.0000001Z", -ERANGE);
        expect_error(units_parse_time, "999999-01-01T00:00:00Z", -ERANGE);
}

static void what_is_no_time_is_refused(void **state) {
        static const char *const texts[] = {"",
                                            "2026",
                                            "2026-01-31",
                                            "2026-01-31T12:00:00",
                                            "2026-01-31T12:00:00+01:00",
                                            "2026-01-31 12:00:00Z",
                                            "2026-02-29T12:00:00Z",
                                            "2100-02-29T12:00:00Z",
                                            "2026-13-01T12:00:00Z",
                                            "2026-00-01T12:00:00Z",
                                            "2026-01-00T12:00:00Z",
                                            "2026-01-31T24:00:00Z",
                                            "2026-01-31T12:60:00Z",
                                            "2026-01-31T12:00:60Z",
                                            "2026-01-31T12:00:00.Z",
                                            "2026-01-31T12:00:00ZZ",
                                            "1769860800"};

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                expect_error(units_parse_time, texts[i], -EINVAL);
}

static void numbers_print_as_what_they_parse_from(void **state) {
        uint64_t x = 88172645463325252u;

        for (size_t i = 0; i < 20000; i++) {
                char text[UNITS_TEXT_SIZE];
                uint64_t v;

                x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* any numbers of any magnitude */
                v = i == 0 ? UINT64_MAX : x >> x % 64;
                units_print_size(v, text);
                expect_number(units_parse_size, text, v);
                units_print_duration(v, text);
                expect_number(units_parse_duration, text, v);
                units_print_time(v, text);
                expect_number(units_parse_time, text, v);
        }
}

static void people_read_the_largest_unit(void **state) {
        char *size = text_size(4 * GIB), *odd = text_size(1025),
             *duration = text_duration(90 * USEC_PER_SEC), *none = text_duration(0);

        assert_string_equal(size, "4GiB");
        assert_string_equal(odd, "1025");
        assert_string_equal(duration, "1m30s");
        assert_string_equal(none, "0s");
        free(size);
        free(odd);
        free(duration);
        free(none);
}

static void base64_takes_its_canonical_form_only(void **state) {
        static const char *const bad[] = {"A",    "AA",   "AAA",      "AB==", "AAB=", "A===",
                                          "====", "AA=A", "AA==AAAA", "A A=", "AA-_"};
        uint8_t *data;
        size_t size;

        for (size_t i = 0; i < 100; i++) {
                uint8_t in[100] = {};
                char *text;

                for (size_t k = 0; k < i; k++)
                        in[k] = (uint8_t)(k * 37 + i * 101);
                text = base64_encode(in, i);
                assert_int_equal(base64_decode(text, strlen(text), &data, &size), 0);
                assert_int_equal(size, i);
                assert_true(i == 0 || memcmp(data, in, i) == 0);
                free(data);
                free(text);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(base64_decode(bad[i], strlen(bad[i]), &data, &size), -EINVAL);
}

static void a_slip_finds_the_word_that_was_meant(void **state) {
        static const char *const words[] = {"attempts", "timeout", "name", NULL,
                                            "working_directory"};

        assert_string_equal(text_suggest("atempts", words, 5), "attempts");
        assert_string_equal(text_suggest("tiemout", words, 5), "timeout");
        assert_string_equal(text_suggest("Name", words, 5), "name");
        assert_string_equal(text_suggest("working-directory", words, 5), "working_directory");
        assert_null(text_suggest("prompt", words, 5));
        assert_null(text_suggest("", words, 5));
}

static void broken_utf8_is_seen_and_repaired(void **state) {
        static const char *const bad[] = {
                "\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"};
        char *repaired = utf8_repair("a\xff\xc3\xa9");

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(utf8_valid_length(bad[i], strlen(bad[i])), 0);
        assert_int_equal(utf8_valid_length("a\xc3\xa9\xf0\x9f\x98\x80", 7), 7);
        assert_string_equal(repaired, "a\xef\xbf\xbd\xc3\xa9");
        free(repaired);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sizes_are_exact),
                cmocka_unit_test(what_is_no_size_is_refused),
                cmocka_unit_test(durations_are_exact),
                cmocka_unit_test(what_is_no_duration_is_refused),
                cmocka_unit_test(times_are_rfc_3339),
                cmocka_unit_test(what_is_no_time_is_refused),
                cmocka_unit_test(numbers_print_as_what_they_parse_from),
                cmocka_unit_test(people_read_the_largest_unit),
                cmocka_unit_test(base64_takes_its_canonical_form_only),
                cmocka_unit_test(a_slip_finds_the_word_that_was_meant),
                cmocka_unit_test(broken_utf8_is_seen_and_repaired),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
