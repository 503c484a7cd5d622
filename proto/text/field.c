#include "proto/text/field.h"

#include <ctype.h>
#include <string.h>

#include "proto/text/text.h"

static bool field_is_number(const Field *f) {
        return f->type == PROTOBUF_C_TYPE_UINT32 || f->type == PROTOBUF_C_TYPE_UINT64;
}

static bool field_ends_in(const Field *f, const char *suffix) {
        size_t n = strlen(f->name), m = strlen(suffix);

        return n > m && strcmp(f->name + n - m, suffix) == 0;
}

TextUnit text_field_unit(const Field *f) {
        if (!field_is_number(f))
                return TEXT_UNIT_NONE;
        if (field_ends_in(f, "_bytes"))
                return TEXT_UNIT_SIZE;
        if (field_ends_in(f, "_unix_us"))
                return TEXT_UNIT_TIME;
        return field_ends_in(f, "_us") ? TEXT_UNIT_DURATION : TEXT_UNIT_NONE;
}

int text_field_name_length(const Field *f) {
        static const size_t suffix[] = {
                [TEXT_UNIT_NONE] = 0,
                [TEXT_UNIT_SIZE] = sizeof "_bytes" - 1,
                [TEXT_UNIT_DURATION] = sizeof "_us" - 1,
                [TEXT_UNIT_TIME] = sizeof "_unix_us" - 1,
        };

        return (int)(strlen(f->name) - suffix[text_field_unit(f)]);
}

const Field *text_field_find(const MessageDescriptor *d, const char *name, size_t length) {
        for (unsigned i = 0; i < d->n_fields; i++)
                if ((size_t)text_field_name_length(&d->fields[i]) == length &&
                    memcmp(d->fields[i].name, name, length) == 0)
                        return &d->fields[i];
        return NULL;
}

bool text_field_is_oneof(const Field *f) {
        return f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
}

bool text_field_is_map(const Field *f) {
        const MessageDescriptor *d = f->descriptor;
        size_t n;

        if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE)
                return false;
        n = strlen(d->short_name);
        return n > 5 && strcmp(d->short_name + n - 5, "Entry") == 0 && d->n_fields == 2 &&
               strcmp(d->fields[0].name, "key") == 0 && strcmp(d->fields[1].name, "value") == 0 &&
               d->fields[0].type != PROTOBUF_C_TYPE_MESSAGE &&
               d->fields[0].label != PROTOBUF_C_LABEL_REPEATED &&
               d->fields[1].label != PROTOBUF_C_LABEL_REPEATED;
}

size_t text_field_size(const Field *f) {
        switch (f->type) {
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
        case PROTOBUF_C_TYPE_DOUBLE:
                return sizeof(uint64_t);
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_STRING:
                return sizeof(char *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(Message *);
        default:
                return sizeof(uint32_t);
        }
}

void text_value_free(const Field *f, TextValue *v) {
        if (f->type == PROTOBUF_C_TYPE_STRING)
                free(v->string);
        else if (f->type == PROTOBUF_C_TYPE_BYTES)
                free(v->bytes.data);
        else if (f->type == PROTOBUF_C_TYPE_MESSAGE)
                message_free(v->message);
        *v = (TextValue){};
}

/* How much of RUN_STATE_TIMED_OUT is the type's own name, "RunState", and is not shown. */
static size_t enum_prefix_length(const ProtobufCEnumDescriptor *d, const char *name) {
        const char *start = name;

        for (const char *t = d->short_name; *t; t++) {
                if (isupper((unsigned char)*t) && t != d->short_name && *name++ != '_')
                        return 0;
                if (*name++ != toupper((unsigned char)*t))
                        return 0;
        }
        return *name == '_' && name[1] ? (size_t)(name - start) + 1 : 0;
}

static char enum_letter(char c) {
        return c == '_' ? '-' : (char)tolower((unsigned char)c);
}

static char *enum_text_new(const ProtobufCEnumDescriptor *d, const char *name) {
        char *text = strdup(name + enum_prefix_length(d, name));

        for (char *c = text; c && *c; c++)
                *c = enum_letter(*c);
        return text;
}

const ProtobufCEnumValue *
text_enum_find(const ProtobufCEnumDescriptor *d, const char *name, size_t length) {
        for (unsigned i = 0; i < d->n_values; i++) {
                const char *text = text_enum(d, d->values[i].value);

                if (strlen(text) == length && memcmp(text, name, length) == 0)
                        return &d->values[i];
        }
        return NULL;
}

/*
 * The texts of an enum's values, made when first asked for and kept: callers hold plain pointers.
 * Entries are only ever added, with one atomic exchange, so that threads need no lock.
 */
typedef struct EnumTexts EnumTexts;

struct EnumTexts {
        EnumTexts *next;
        const ProtobufCEnumDescriptor *descriptor;
        char *texts[]; /* beside descriptor->values */
};

static EnumTexts *enum_texts_known;

static EnumTexts *enum_texts_free(EnumTexts *t) {
        for (unsigned i = 0; i < t->descriptor->n_values; i++)
                free(t->texts[i]);
        free(t);
        return NULL;
}

static EnumTexts *enum_texts_new(const ProtobufCEnumDescriptor *d) {
        EnumTexts *t = calloc(1, sizeof *t + d->n_values * sizeof *t->texts);

        if (!t)
                return NULL;
        t->descriptor = d;
        for (unsigned i = 0; i < d->n_values; i++) {
                t->texts[i] = enum_text_new(d, d->values[i].name);
                if (!t->texts[i])
                        return enum_texts_free(t);
        }
        t->next = __atomic_load_n(&enum_texts_known, __ATOMIC_ACQUIRE);
        while (!__atomic_compare_exchange_n(&enum_texts_known, &t->next, t, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE))
                ;
        return t;
}

const char *text_enum(const ProtobufCEnumDescriptor *d, int value) {
        EnumTexts *t = __atomic_load_n(&enum_texts_known, __ATOMIC_ACQUIRE);

        while (t && t->descriptor != d)
                t = t->next;
        t = t ?: enum_texts_new(d);
        for (unsigned i = 0; t && i < d->n_values; i++)
                if (d->values[i].value == value)
                        return t->texts[i];
        return "?";
}
