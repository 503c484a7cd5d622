#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "shim/junit.h"

static void failures_are_named_with_their_messages(void **state) {
        static const char xml[] = "<?xml version='1.0'?><testsuites><testsuite name='s'>"
                                  "<testcase classname='map' name='put'/>"
                                  "<testcase classname='map' name='remove'><failure "
                                  "message='expected 1, got 2'>map.c:12\n</failure></testcase>"
                                  "<testcase name='boom'><error>segfault</error></testcase>"
                                  "<testcase name='later'><skipped/></testcase>"
                                  "</testsuite></testsuites>";
        JunitReport r = {0};

        assert_int_equal(junit_parse(xml, sizeof xml - 1, &r, NULL), 0);
        assert_int_equal(r.tests, 4);
        assert_int_equal(r.failures, 2);
        assert_int_equal(r.skipped, 1);
        assert_string_equal(
                r.text,
                "FAILED map.remove: expected 1, got 2\nmap.c:12\n\nFAILED boom\nsegfault\n");
        junit_report_done(&r);
}

static void a_green_report_has_no_text(void **state) {
        static const char xml[] = "<testsuite><testcase name='a'/></testsuite>";
        JunitReport r = {0};

        assert_int_equal(junit_parse(xml, sizeof xml - 1, &r, NULL), 0);
        assert_int_equal(r.tests, 1);
        assert_null(r.text);
}

static void what_is_not_xml_is_refused_with_its_place(void **state) {
        _cleanup_error_ Error *e = NULL;
        JunitReport r = {0};

        assert_int_equal(junit_parse("<a>\n<b></a>", 11, &r, &e), -EBADMSG);
        assert_non_null(strstr(e->what, "2:"));
        error_freep(&e);
        assert_int_equal(junit_parse("", 0, &r, &e), -EBADMSG);
}

static void entities_of_its_own_are_refused(void **state) {
        static const char xml[] = "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>";
        _cleanup_error_ Error *e = NULL;
        JunitReport r = {0};

        assert_int_equal(junit_parse(xml, sizeof xml - 1, &r, &e), -E2BIG);
        assert_non_null(strstr(e->what, "entities"));
}

static void a_deep_document_is_refused(void **state) {
        char xml[1024] = "", *p = xml;
        JunitReport r = {0};

        for (int i = 0; i < 100; i++)
                p = stpcpy(p, "<a>");
        assert_int_equal(junit_parse(xml, strlen(xml), &r, NULL), -E2BIG);
}

static void a_thousand_failures_make_a_text_of_limited_size(void **state) {
        char *xml = NULL;
        JunitReport r = {0};
        size_t size;
        FILE *f = open_memstream(&xml, &size);

        fprintf(f, "<t>");
        for (int i = 0; i < 1000; i++)
                fprintf(f,
                        "<testcase name='t%d'><failure "
                        "message='%0500d'>%0900d</failure></testcase>",
                        i, i, i);
        fprintf(f, "</t>");
        fclose(f);
        assert_int_equal(junit_parse(xml, size, &r, NULL), 0);
        assert_int_equal(r.failures, 1000);
        assert_in_range(strlen(r.text), 20 * KIB, 32 * KIB);
        junit_report_done(&r);
        free(xml);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(failures_are_named_with_their_messages),
                cmocka_unit_test(a_green_report_has_no_text),
                cmocka_unit_test(what_is_not_xml_is_refused_with_its_place),
                cmocka_unit_test(entities_of_its_own_are_refused),
                cmocka_unit_test(a_deep_document_is_refused),
                cmocka_unit_test(a_thousand_failures_make_a_text_of_limited_size),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
