/*
 * Fuzz target: a person's file to a message, and any message to text and back
 *
 * The first byte names the message. A small letter: the rest is text; what parses must print, and
 * that text must parse to a message that prints the same. A capital: the rest is the wire form of a
 * message from a peer; it must print as text that parses. 's' is a foreign format, whose unknown
 * fields are skipped.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "carrel/v1/oci.pb-c.h"
#include "fuzz/fuzz.h"
#include "proto/text/text.h"

/*
 * libfyaml 0.7.12 leaks a buffer where a long broken scalar ends a text. Only the fuzzer is told to
 * look away; the unit tests replay the corpus without this.
 */
#ifdef FUZZING
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
        return "leak:libfyaml";
}
#endif

static const MessageDescriptor *choose(uint8_t letter) {
        switch (tolower(letter)) {
        case 'e':
                return &carrel__v1__event__descriptor;
        case 'i':
                return &carrel__v1__image__descriptor;
        case 'l':
                return &carrel__v1__plan__descriptor;
        case 'p':
                return &carrel__v1__policy__descriptor;
        case 'q':
                return &carrel__v1__request__descriptor;
        case 'r':
                return &carrel__v1__run__descriptor;
        case 's':
                return &carrel__v1__oci_seccomp__descriptor;
        default:
                return &carrel__v1__task__descriptor;
        }
}

static _Noreturn void complain(const char *step, const char *text, const Error *e) {
        fprintf(stderr, "%s: %s\n%s\n", step, e && e->what ? e->what : "texts differ",
                text ? text : "");
        abort();
}

/* What is too much for a file may still come over the wire. */
static bool is_limit(const Error *e) {
        return e && (e->code == E2BIG || (e->what && strstr(e->what, "a key must be at most")) ||
                     (e->what && strstr(e->what, "did not find expected key")));
}

static void check_prints_and_parses(const Message *m, TextFormat format) {
        _cleanup_free_ char *text = NULL, *again = NULL;
        _cleanup_error_ Error *e = NULL;
        _cleanup_message_ void *copy = NULL;

        if (text_print(m, format, &text, &e) < 0)
                complain("cannot print", NULL, e);
        if (text_parse("printed", text, strlen(text), m->descriptor, &copy, NULL, &e) < 0) {
                if (is_limit(e))
                        return;
                complain("cannot parse what was printed", text, e);
        }
        if (text_print(copy, format, &again, &e) < 0)
                complain("cannot print again", text, e);
        if (strcmp(text, again) != 0)
                complain(again, text, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        _cleanup_message_ void *m = NULL;
        _cleanup_error_ Error *e = NULL;
        const MessageDescriptor *d;
        int r;

        if (size < 1)
                return 0;
        d = choose(data[0]);
        if (isupper(data[0]))
                r = message_unpack(d, data + 1, size - 1, &m);
        else if (data[0] == 's')
                r = text_parse_known("fuzz", (const char *)data + 1, size - 1, d, &m, &e);
        else
                r = text_parse("fuzz", (const char *)data + 1, size - 1, d, &m, &places, &e);
        if (r < 0) {
                if (!isupper(data[0]) && (!e || !e->what || strncmp(e->what, "fuzz:", 5) != 0))
                        complain("an error without a place", NULL, e);
                return 0;
        }
        for (TextFormat format = TEXT_FORMAT_YAML; format <= TEXT_FORMAT_JSON_LINE; format++)
                check_prints_and_parses(m, format);
        return 0;
}
