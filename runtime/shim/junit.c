#include "shim/junit.h"

#include <errno.h>
#include <expat.h>
#include <stdbool.h>
#include <string.h>

#define JUNIT_MAX_DEPTH   64
#define JUNIT_MAX_TEXT    (24 * KIB) /* of all failures together */
#define JUNIT_MAX_MESSAGE (2 * KIB)  /* of one failure's own text */

typedef struct JunitParser {
        XML_Parser xml;
        JunitReport report;
        unsigned depth;
        bool in_failure, refused;
        bool failed;    /* the test case at hand was counted already */
        char name[512]; /* of the test case at hand */
        size_t message; /* bytes of the failure at hand so far */
        FILE *out;
        char *text;
        size_t size;
} JunitParser;

static const char *junit_attribute(const XML_Char **attributes, const char *name) {
        for (; attributes[0]; attributes += 2)
                if (strcmp(attributes[0], name) == 0)
                        return attributes[1];
        return "";
}

static bool junit_full(JunitParser *p) {
        fflush(p->out);
        return p->size >= JUNIT_MAX_TEXT;
}

static void junit_begin_failure(JunitParser *p, const XML_Char **attributes) {
        const char *message = junit_attribute(attributes, "message");

        if (!p->failed)
                p->report.failures++;
        p->failed = true;
        p->in_failure = true;
        p->message = 0;
        if (!junit_full(p))
                fprintf(p->out, "FAILED %s%s%.1024s\n", p->name, *message ? ": " : "", message);
}

static void XMLCALL junit_start(void *data, const XML_Char *element, const XML_Char **attributes) {
        JunitParser *p = data;

        if (++p->depth > JUNIT_MAX_DEPTH) {
                p->refused = true;
                XML_StopParser(p->xml, XML_FALSE);
        } else if (strcmp(element, "testcase") == 0) {
                const char *class = junit_attribute(attributes, "classname");

                p->report.tests++;
                p->failed = false;
                snprintf(p->name, sizeof p->name, "%s%s%s", class, *class ? "." : "",
                         junit_attribute(attributes, "name"));
        } else if (strcmp(element, "failure") == 0 || strcmp(element, "error") == 0) {
                junit_begin_failure(p, attributes);
        } else if (strcmp(element, "skipped") == 0) {
                p->report.skipped++;
        }
}

static void XMLCALL junit_end(void *data, const XML_Char *element) {
        JunitParser *p = data;

        p->depth--;
        if (strcmp(element, "failure") == 0 || strcmp(element, "error") == 0) {
                if (p->message > 0)
                        fputc('\n', p->out);
                p->in_failure = false;
        }
}

static void XMLCALL junit_characters(void *data, const XML_Char *text, int size) {
        JunitParser *p = data;
        size_t n = MIN_OF((size_t)size, (size_t)JUNIT_MAX_MESSAGE - p->message);

        if (!p->in_failure || n == 0 || junit_full(p))
                return;
        if (p->message == 0 && strspn(text, " \t\r\n") >= n)
                return; /* white space before the message */
        fwrite(text, 1, n, p->out);
        p->message += n;
}

/* A document that brings entities of its own is no report. */
static void XMLCALL junit_entity(void *data,
                                 const XML_Char *name,
                                 int parameter,
                                 const XML_Char *value,
                                 int size,
                                 const XML_Char *base,
                                 const XML_Char *system,
                                 const XML_Char *public,
                                 const XML_Char *notation) {
        JunitParser *p = data;

        p->refused = true;
        XML_StopParser(p->xml, XML_FALSE);
}

static int junit_run(JunitParser *p, const char *data, size_t size, Error **reterr) {
        XML_SetUserData(p->xml, p);
        XML_SetElementHandler(p->xml, junit_start, junit_end);
        XML_SetCharacterDataHandler(p->xml, junit_characters);
        XML_SetEntityDeclHandler(p->xml, junit_entity);
        if (XML_Parse(p->xml, data, (int)size, XML_TRUE) == XML_STATUS_OK)
                return 0;
        if (p->refused)
                return error_refuse(reterr, E2BIG, NULL,
                                    "the JUnit report nests too deeply or declares entities");
        return error_refuse(reterr, EBADMSG, NULL, "the JUnit report is not XML: %lu:%lu: %s",
                            XML_GetCurrentLineNumber(p->xml), XML_GetCurrentColumnNumber(p->xml),
                            XML_ErrorString(XML_GetErrorCode(p->xml)));
}

int junit_parse(const char *data, size_t size, JunitReport *ret_report, Error **reterr) {
        JunitParser p = {0};
        int r;

        if (size > JUNIT_MAX_SIZE)
                return error_refuse(reterr, E2BIG, NULL, "the JUnit report is larger than %lu MiB",
                                    JUNIT_MAX_SIZE / MIB);
        p.xml = XML_ParserCreate(NULL);
        p.out = open_memstream(&p.text, &p.size);
        if (!p.xml || !p.out)
                r = error_set(reterr, ENOMEM, "cannot read the JUnit report");
        else
                r = junit_run(&p, data, size, reterr);
        if (p.out)
                fclose(p.out);
        if (p.xml)
                XML_ParserFree(p.xml);
        if (r == 0) {
                *ret_report = p.report;
                if (p.report.failures > 0)
                        ret_report->text = TAKE_PTR(p.text);
        }
        free(p.text);
        return r;
}

void junit_report_done(JunitReport *r) {
        free(TAKE_PTR(r->text));
}
