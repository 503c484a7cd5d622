/* What is printed must parse to an equal message, whatever its strings are. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

#include "proto/text/field.h"
#include "proto/text/text.h"

static const char *const pieces[] = {
        "a",        " ",
        "\n",       "\t",
        "\r",       "\"",
        "\\",       "#",
        ":",        "-",
        "'",        "{",
        "]",        "\xe2\x80\xa8",
        "\xc2\x85", "\xf0\x9f\x98\x80",
        "\x1b",     "\xef\xbb\xbf",
        "%",        "&",
        "*",        "!",
        "|",        ">",
        ",",        "\x7f",
        "\xc3\xa9",
};

static const char *const words[] = {
        "",
        "true",
        "null",
        "~",
        "1.0",
        "0x1f",
        "1e3",
        "- x",
        "a: b",
        "---",
        "...",
        "<<",
        "=",
        "yes",
        "No",
        ".inf",
        "2026-01-31",
        "12:30:00",
        "? x",
        "sha256:ab",
        "one\ntwo",
        "one\ntwo\n",
        "one\n\n  two\n",
        "one\n two \n",
        "a\n\n",
        "\n",
        " a",
        "a ",
        "   ",
        "key: |\n  x\n",
        "# no\ncomment",
        "\xef\xbf\xbe",
        "\x01\x02",
        "C:\\dir",
        "it's",
        "\"quoted\"",
        "--- a\n--- b\n",
};

static void expect_equal_after(Message *m, TextFormat format) {
        _cleanup_free_ char *text = NULL;
        _cleanup_free_ uint8_t *before = NULL, *after = NULL;
        _cleanup_message_ void *copy = NULL;
        _cleanup_error_ Error *err = NULL;
        size_t n_before, n_after;

        if (text_print(m, format, &text, &err) < 0 ||
            text_parse("text", text, strlen(text), m->descriptor, &copy, NULL, &err) < 0)
                fail_msg("%s\n%s", err->what, text);
        assert_int_equal(message_pack(m, &before, &n_before), 0);
        assert_int_equal(message_pack(copy, &after, &n_after), 0);
        if (n_before != n_after || memcmp(before, after, n_before) != 0)
                fail_msg("not equal after:\n%s", text);
}

static void expect_equal(Message *m) {
        expect_equal_after(m, TEXT_FORMAT_YAML);
        expect_equal_after(m, TEXT_FORMAT_JSON);
        expect_equal_after(m, TEXT_FORMAT_JSON_LINE);
}

static void expect_string_survives(char *s) {
        Task task = CARREL__V1__TASK__INIT;
        Check check = CARREL__V1__CHECK__INIT, *checks[] = {&check};
        Carrel__V1__Task__LabelsEntry entry = CARREL__V1__TASK__LABELS_ENTRY__INIT,
                                      *labels[] = {&entry};
        char *command[] = {s, s}, plain[] = "plain";

        task.prompt = s;
        task.n_checks = 1;
        task.checks = checks;
        check.n_command = 2;
        check.command = command;
        check.name = plain;
        task.n_labels = 1;
        task.labels = labels;
        entry.key = s;
        entry.value = s;
        expect_equal(&task.base);
}

static void words_with_a_second_meaning_survive(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                char copy[64];

                snprintf(copy, sizeof copy, "%s", words[i]);
                expect_string_survives(copy);
        }
}

static void every_short_string_of_nasty_pieces_survives(void **state) {
        const size_t n = ELEMENTSOF(pieces);

        for (size_t i = 0; i < n * n * n; i++) {
                char s[32];

                snprintf(s, sizeof s, "%s%s%s", pieces[i % n], pieces[i / n % n],
                         pieces[i / n / n]);
                expect_string_survives(s);
        }
}

static void keys_that_differ_in_spaces_only_survive(void **state) {
        static const char *const keys[] = {"", " ", " a", "a", "a "};
        Carrel__V1__Task__LabelsEntry entries[ELEMENTSOF(keys)], *labels[ELEMENTSOF(keys)];
        Task task = CARREL__V1__TASK__INIT;
        char texts[ELEMENTSOF(keys)][4];

        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                carrel__v1__task__labels_entry__init(&entries[i]);
                snprintf(texts[i], sizeof texts[i], "%s", keys[i]);
                entries[i].key = entries[i].value = texts[i];
                labels[i] = &entries[i];
        }
        task.n_labels = ELEMENTSOF(keys);
        task.labels = labels;
        expect_equal(&task.base);
}

static void long_strings_survive(void **state) {
        static char s[9000];

        for (size_t i = 0; i < sizeof s - 1; i++)
                s[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 26);
        expect_string_survives(s + sizeof s - 900); /* as a key at most 1024 bytes */
        {
                Task task = CARREL__V1__TASK__INIT;

                task.prompt = s;
                expect_equal(&task.base);
                s[4000] = '\n';
                expect_equal(&task.base);
                s[4001] = '\t';
                expect_equal(&task.base);
        }
}

/* Fills every field of a message with something that depends on @seed; one member of each oneof. */
static Message *fill(const MessageDescriptor *d, unsigned *seed, unsigned depth);

static char *fill_string(unsigned *seed) {
        const size_t n = ELEMENTSOF(pieces);
        char *s = malloc(64);
        size_t length = 0;

        for (unsigned i = 0; i < *seed % 9; i++)
                length += (size_t)snprintf(s + length, 64 - length, "%s", pieces[(*seed >> i) % n]);
        s[length] = 0;
        *seed = *seed * 1103515245 + 12345;
        return s;
}

static TextValue fill_value(const Field *f, unsigned *seed, unsigned depth) {
        TextValue v = {};

        *seed = *seed * 1103515245 + 12345;
        if (f->type == PROTOBUF_C_TYPE_STRING)
                v.string = fill_string(seed);
        else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                v.message = fill(f->descriptor, seed, depth + 1);
        else if (f->type == PROTOBUF_C_TYPE_BYTES) {
                v.bytes.len = *seed % 7;
                v.bytes.data = v.bytes.len ? malloc(v.bytes.len) : NULL;
                for (size_t i = 0; i < v.bytes.len; i++)
                        v.bytes.data[i] = (uint8_t)(*seed >> i);
        } else if (f->type == PROTOBUF_C_TYPE_BOOL)
                v.boolean = *seed >> 8 & 1;
        else if (f->type == PROTOBUF_C_TYPE_ENUM)
                v.i32 = (int32_t)(*seed >> 8) % 30;
        else
                v.u64 = ((uint64_t)*seed << 32 | *seed) >> (*seed >> 8) % 64;
        return v;
}

static void fill_field(Message *m, const Field *f, unsigned *seed, unsigned depth) {
        size_t size = text_field_size(f), n = 1 + *seed % 3;
        char *at = (char *)m + f->offset;
        TextValue v;

        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
                if (text_field_is_map(f))
                        n = 1; /* printed in another order than it came */
                *(char **)at = malloc(n * size);
                *(size_t *)((char *)m + f->quantifier_offset) = n;
                for (size_t i = 0; i < n; i++) {
                        v = fill_value(f, seed, depth);
                        memcpy(*(char **)at + i * size, &v, size);
                }
                return;
        }
        if (text_field_is_oneof(f)) {
                uint32_t *chosen = (uint32_t *)((char *)m + f->quantifier_offset);

                if (*chosen)
                        return;
                *seed = *seed * 1103515245 + 12345;
                if ((*seed >> 16) % 4)
                        return;
                *chosen = f->id;
        }
        v = fill_value(f, seed, depth);
        memcpy(at, &v, size);
}

static Message *fill(const MessageDescriptor *d, unsigned *seed, unsigned depth) {
        Message *m = message_new(d);

        for (unsigned i = 0; i < d->n_fields && depth < 8; i++)
                fill_field(m, &d->fields[i], seed, depth);
        return m;
}

static const MessageDescriptor *const messages[] = {
        &carrel__v1__task__descriptor,       &carrel__v1__policy__descriptor,
        &carrel__v1__event__descriptor,      &carrel__v1__run__descriptor,
        &carrel__v1__plan__descriptor,       &carrel__v1__image__descriptor,
        &carrel__v1__request__descriptor,    &carrel__v1__response__descriptor,
        &carrel__v1__error__descriptor,      &carrel__v1__change__descriptor,
        &carrel__v1__artifact__descriptor,   &carrel__v1__guest_request__descriptor,
        &carrel__v1__init_event__descriptor,
};

static void every_message_survives(void **state) {
        for (unsigned i = 0; i < 1500; i++) {
                unsigned seed = i * 2654435761u + 1;
                Message *m = fill(messages[i % ELEMENTSOF(messages)], &seed, 0);

                expect_equal(m);
                message_free(m);
        }
}

static void an_empty_message_is_an_empty_mapping(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(messages); i++) {
                _cleanup_message_ Message *m = message_new(messages[i]);
                _cleanup_free_ char *yaml = NULL, *json = NULL;

                expect_equal(m);
                assert_int_equal(text_print(m, TEXT_FORMAT_YAML, &yaml, NULL), 0);
                assert_string_equal(yaml, "{}\n");
                assert_int_equal(text_print(m, TEXT_FORMAT_JSON_LINE, &json, NULL), 0);
                assert_string_equal(json, "{}");
        }
}

/* The walker knows fields by their text name; two alike could not both be written. */
static void check_names(const MessageDescriptor *d, unsigned depth) {
        for (unsigned i = 0; i < d->n_fields && depth < 8; i++) {
                const Field *f = &d->fields[i];

                assert_ptr_equal(text_field_find(d, f->name, (size_t)text_field_name_length(f)), f);
                assert_int_not_equal(f->type, PROTOBUF_C_TYPE_FLOAT);
                assert_int_not_equal(f->type, PROTOBUF_C_TYPE_DOUBLE);
                if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                        check_names(f->descriptor, depth + 1);
        }
}

static void every_field_of_every_schema_has_a_text_form(void **state) {
        for (size_t i = 0; i < ELEMENTSOF(messages); i++)
                check_names(messages[i], 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(words_with_a_second_meaning_survive),
                cmocka_unit_test(every_short_string_of_nasty_pieces_survives),
                cmocka_unit_test(keys_that_differ_in_spaces_only_survive),
                cmocka_unit_test(long_strings_survive),
                cmocka_unit_test(every_message_survives),
                cmocka_unit_test(an_empty_message_is_an_empty_mapping),
                cmocka_unit_test(every_field_of_every_schema_has_a_text_form),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
