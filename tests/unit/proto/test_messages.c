#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "proto/messages.h"

static void a_copy_is_deep(void **state) {
        _cleanup_message_ Run *run = message_new(&carrel__v1__run__descriptor);
        _cleanup_message_ Run *copy = NULL;

        assert_int_equal(message_set_string(&run->id, "a-1"), 0);
        copy = message_copy(&run->base);
        assert_int_equal(message_set_string(&run->id, "b-2"), 0);
        assert_string_equal(copy->id, "a-1");
}

static void bytes_that_are_no_message_are_refused(void **state) {
        void *m = NULL;

        assert_int_equal(message_unpack(&carrel__v1__run__descriptor, "\xff\xff\xff", 3, &m),
                         -EBADMSG);
        assert_null(m);
}

static void an_error_survives_the_way_through_a_message(void **state) {
        _cleanup_error_ Error *e = NULL, *back = NULL;
        _cleanup_message_ ErrorMessage *m = NULL;

        error_refuse(&e, EPERM, "ask", "no '%s'", "x");
        error_field(&e, -EPERM, "checks[1].name");
        m = error_to_message(e);
        back = error_from_message(m);
        assert_int_equal(back->code, EPERM);
        assert_string_equal(back->what, "no 'x'");
        assert_string_equal(back->hint, "ask");
        assert_string_equal(back->field, "checks[1].name");
        assert_null(error_to_message(NULL));
}

static void assert_made_valid(const char *text, const char *expected) {
        _cleanup_message_ Event *event = message_new(&carrel__v1__event__descriptor);

        event->body_case = CARREL__V1__EVENT__BODY_STATUS_REPORTED;
        event->status_reported = message_new(&carrel__v1__status_reported__descriptor);
        assert_int_equal(message_set_string(&event->status_reported->text, text), 0);
        message_make_text_valid(&event->base);
        assert_string_equal(event->status_reported->text, expected);
}

static void text_of_an_agent_becomes_utf8(void **state) {
        assert_made_valid("plain", "plain");
        assert_made_valid("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7",
                          "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\xa7");
        assert_made_valid("a\xff\xfe z", "a?? z");
        assert_made_valid("cut \xe2\x82", "cut ??");
        assert_made_valid("\xc0\xaf", "??");           /* overlong '/' */
        assert_made_valid("\xed\xa0\x80", "???");      /* a surrogate */
        assert_made_valid("\xf4\x90\x80\x80", "????"); /* past U+10FFFF */
}

static void text_in_repeated_messages_becomes_utf8_too(void **state) {
        _cleanup_message_ GuestResponse *response =
                message_new(&carrel__v1__guest_response__descriptor);
        Feedback *item = message_new(&carrel__v1__feedback__descriptor);

        response->body_case = CARREL__V1__GUEST_RESPONSE__BODY_FEEDBACK;
        response->feedback = message_new(&carrel__v1__guest_feedback_response__descriptor);
        assert_int_equal(message_set_string(&item->text, "\x80"), 0);
        assert_int_equal(
                message_append(&response->feedback->items, &response->feedback->n_items, item), 0);
        message_make_text_valid(&response->base);
        assert_string_equal(response->feedback->items[0]->text, "?");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_copy_is_deep),
                cmocka_unit_test(bytes_that_are_no_message_are_refused),
                cmocka_unit_test(an_error_survives_the_way_through_a_message),
                cmocka_unit_test(text_of_an_agent_becomes_utf8),
                cmocka_unit_test(text_in_repeated_messages_becomes_utf8_too),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
