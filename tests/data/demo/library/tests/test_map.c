/*
 * Tests of the map: `test-map REPORT` runs them all and writes a JUnit report
 *
 * A test returns true, or says with fail() what it saw.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

static char message[256];

static bool __attribute__((format(printf, 1, 2))) fail(const char *format, ...) {
        va_list args;

        va_start(args, format);
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        return false;
}

/* The @n-th of the keys whose search begins in @home. */
static void make_key(const Map *map, size_t home, int n, char key[16]) {
        for (int i = 0; i < 100000; i++) {
                snprintf(key, 16, "key-%d", i);
                if (map_home(map, key) == home && n-- == 0)
                        return;
        }
        abort();
}

static bool a_value_that_was_set_is_found(Map *map) {
        int value = 0;

        map_set(map, "one", 1);
        map_set(map, "two", 2);
        if (!map_get(map, "two", &value) || value != 2)
                return fail("'two' is %d, not 2", value);
        return !map_get(map, "three", &value) || fail("'three' was never set, but is there");
}

static bool setting_again_replaces_the_value(Map *map) {
        int value = 0;

        map_set(map, "one", 1);
        map_set(map, "one", 11);
        if (!map_get(map, "one", &value) || value != 11)
                return fail("'one' is %d, not 11", value);
        return map_size(map) == 1 || fail("%zu keys, not 1", map_size(map));
}

static bool a_thousand_keys_survive_growth(Map *map) {
        char key[16];
        int value = 0;

        for (int i = 0; i < 1000; i++) {
                snprintf(key, sizeof key, "%d", i);
                map_set(map, key, i);
        }
        for (int i = 0; i < 1000; i++) {
                snprintf(key, sizeof key, "%d", i);
                if (!map_get(map, key, &value) || value != i)
                        return fail("'%s' is lost in a map of %zu slots", key, map_slots(map));
        }
        return true;
}

static bool a_removed_key_is_gone(Map *map) {
        int value;

        map_set(map, "one", 1);
        if (!map_remove(map, "one"))
                return fail("'one' could not be removed");
        return !map_get(map, "one", &value) || fail("'one' is still there");
}

/* Three keys whose searches begin in the slots @homes: remove one, and the other two must still be
 * found. */
static bool removal_keeps(const size_t homes[3], int removed) {
        Map *map = map_new();
        char keys[3][16];
        bool ok = true;
        int value;

        for (int i = 0; i < 3; i++) {
                make_key(map, homes[i], i, keys[i]);
                map_set(map, keys[i], i);
        }
        map_remove(map, keys[removed]);
        for (int i = 0; i < 3; i++)
                if (ok && i != removed && !map_get(map, keys[i], &value))
                        ok = fail("key of home slot %zu is lost after removing one of home slot "
                                  "%zu (%zu slots)",
                                  homes[i], homes[removed], map_slots(map));
        map_free(map);
        return ok;
}

static bool a_removal_keeps_every_other_key(Map *map) {
        size_t n = map_slots(map);

        for (size_t first = 0; first < n; first++)
                for (int shape = 0; shape < 6 * 3; shape++) {
                        size_t homes[3] = {first, (first + shape / 9) % n,
                                           (first + shape / 3 % 3) % n};

                        if (!removal_keeps(homes, shape % 3))
                                return false;
                }
        return true;
}

static const struct {
        const char *name;
        bool (*run)(Map *map);
} tests[] = {
        {"a_value_that_was_set_is_found", a_value_that_was_set_is_found},
        {"setting_again_replaces_the_value", setting_again_replaces_the_value},
        {"a_thousand_keys_survive_growth", a_thousand_keys_survive_growth},
        {"a_removed_key_is_gone", a_removed_key_is_gone},
        {"a_removal_keeps_every_other_key", a_removal_keeps_every_other_key},
};

enum { N_TESTS = sizeof tests / sizeof tests[0] };

static void write_report(FILE *f, const bool ok[], char messages[][sizeof message], int failed) {
        fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        fprintf(f, "<testsuite name=\"map\" tests=\"%d\" failures=\"%d\">\n", N_TESTS, failed);
        for (int i = 0; i < N_TESTS; i++) {
                fprintf(f, "  <testcase classname=\"map\" name=\"%s\"", tests[i].name);
                if (ok[i])
                        fprintf(f, "/>\n");
                else /* no message holds a character that XML reserves in text */
                        fprintf(f, ">\n    <failure>%s</failure>\n  </testcase>\n", messages[i]);
        }
        fprintf(f, "</testsuite>\n");
}

int main(int argc, char *argv[]) {
        static char messages[N_TESTS][sizeof message];
        bool ok[N_TESTS];
        int failed = 0;
        FILE *f = argc == 2 ? fopen(argv[1], "we") : NULL;

        if (!f) {
                fprintf(stderr, "usage: test-map REPORT (a file that can be written)\n");
                return 2;
        }
        for (int i = 0; i < N_TESTS; i++) {
                Map *map = map_new();

                ok[i] = tests[i].run(map);
                map_free(map);
                failed += !ok[i];
                snprintf(messages[i], sizeof messages[i], "%s", ok[i] ? "" : message);
                printf("%s %s%s%s\n", ok[i] ? "ok    " : "FAILED", tests[i].name, ok[i] ? "" : ": ",
                       messages[i]);
        }
        write_report(f, ok, messages, failed);
        if (fclose(f) != 0) {
                perror(argv[1]);
                return 2;
        }
        return failed > 0;
}
