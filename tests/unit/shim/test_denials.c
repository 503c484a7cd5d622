/* How often denied calls become events: merged, rate-limited, and every one counted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "shim/denials.h"

static struct {
        unsigned n;
        uint64_t count, lost; /* sums */
        uint64_t last_count, last_lost;
        char call[32], arguments[160];
} told;

static void tell(Event *event, void *data) {
        const Carrel__V1__Denied *d = event->denied;

        assert_int_equal(event->body_case, CARREL__V1__EVENT__BODY_DENIED);
        told.n++;
        told.count += d->count;
        told.lost += d->lost;
        told.last_count = d->count;
        told.last_lost = d->lost;
        snprintf(told.call, sizeof told.call, "%s", d->call);
        snprintf(told.arguments, sizeof told.arguments, "%s", d->arguments);
}

static int start(void **state) {
        memset(&told, 0, sizeof told);
        *state = denials_new(tell, NULL);
        return *state ? 0 : -1;
}

static int stop(void **state) {
        denials_free(*state);
        return 0;
}

static bool deny(Denials *d, uint64_t now_us, const char *call, unsigned argument) {
        SyscallExplanation why = {.rule = "rule", .hint = "hint"};

        snprintf(why.call, sizeof why.call, "%s", call);
        snprintf(why.arguments, sizeof why.arguments, "%u", argument);
        return denials_add(d, now_us, &why);
}

static void the_first_of_a_kind_is_told_at_once(void **state) {
        assert_false(deny(*state, 5, "mount", 1));
        assert_false(deny(*state, 5, "mount", 2));
        assert_false(deny(*state, 6, "bpf", 1));
        assert_int_equal(told.n, 3);
        assert_int_equal(told.count, 3);
        assert_string_equal(told.call, "bpf");
        assert_string_equal(told.arguments, "1");
}

static void alike_ones_wait_for_a_second_and_come_as_one(void **state) {
        deny(*state, 1, "mount", 1);
        for (unsigned i = 0; i < 1000; i++)
                assert_true(deny(*state, 2 + i, "mount", 1));
        assert_int_equal(told.n, 1);
        assert_true(denials_tick(*state, USEC_PER_SEC));
        assert_int_equal(told.n, 1);
        assert_false(denials_tick(*state, USEC_PER_SEC + 1));
        assert_int_equal(told.n, 2);
        assert_int_equal(told.last_count, 1000);
}

static void a_later_one_tells_of_those_that_waited(void **state) {
        deny(*state, 1, "mount", 1);
        deny(*state, 2, "mount", 1);
        assert_false(deny(*state, USEC_PER_SEC + 1, "mount", 1));
        assert_int_equal(told.last_count, 2);
}

static void a_second_has_so_many_events(void **state) {
        for (unsigned i = 0; i < DENIALS_MAX_PER_SECOND + 5; i++)
                deny(*state, 10, "mount", i);
        assert_int_equal(told.n, DENIALS_MAX_PER_SECOND);
        assert_false(denials_tick(*state, 10 + USEC_PER_SEC));
        assert_int_equal(told.n, DENIALS_MAX_PER_SECOND + 5);
        assert_int_equal(told.lost, 0);
}

static void what_finds_no_place_is_counted_as_lost(void **state) {
        for (unsigned i = 0; i < 1000; i++)
                deny(*state, 10, "mount", i);
        assert_int_equal(told.n, DENIALS_MAX_PER_SECOND);
        denials_flush(*state);
        assert_int_equal(told.count + told.lost, 1000);
        assert_true(told.lost > 0);
}

/* Whatever an agent does: events are bounded, and no denial is forgotten. */
static void a_run_has_so_many_events_and_one_for_the_rest(void **state) {
        uint64_t n = 0;

        for (uint64_t second = 1; second < 300; second++) {
                for (unsigned i = 0; i < 100; i++, n++)
                        deny(*state, second * USEC_PER_SEC, "mount", (unsigned)n % 977);
                denials_tick(*state, second * USEC_PER_SEC);
        }
        assert_int_equal(told.n, DENIALS_MAX_PER_RUN);
        assert_false(denials_tick(*state, 1000 * USEC_PER_SEC));
        assert_int_equal(told.n, DENIALS_MAX_PER_RUN);
        denials_flush(*state);
        assert_int_equal(told.n, DENIALS_MAX_PER_RUN + 1);
        assert_int_equal(told.count + told.lost, n);
}

static void add_up(const SyscallExplanation *why, uint64_t count, void *data) {
        assert_string_equal(why->call, "mount");
        *(uint64_t *)data += count;
}

static void an_agent_can_ask_for_all_so_far(void **state) {
        uint64_t n = 0;

        for (unsigned i = 0; i < 10; i++)
                deny(*state, 1, "mount", i % 2);
        denials_flush(*state);
        denials_each(*state, add_up, &n);
        assert_int_equal(n, 10);
}

static void a_flush_of_nothing_tells_nothing(void **state) {
        denials_flush(*state);
        deny(*state, 1, "mount", 1);
        denials_flush(*state);
        denials_flush(*state);
        assert_int_equal(told.n, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(the_first_of_a_kind_is_told_at_once),
                TEST(alike_ones_wait_for_a_second_and_come_as_one),
                TEST(a_later_one_tells_of_those_that_waited),
                TEST(a_second_has_so_many_events),
                TEST(what_finds_no_place_is_counted_as_lost),
                TEST(a_run_has_so_many_events_and_one_for_the_rest),
                TEST(an_agent_can_ask_for_all_so_far),
                TEST(a_flush_of_nothing_tells_nothing),
        };

        return cmocka_run_group_tests_name("denials", tests, NULL, NULL);
}
