#include "proto/text/scalar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "proto/text/base64.h"
#include "proto/text/suggest.h"
#include "proto/text/text.h"
#include "proto/text/units.h"

static int scalar_refuse(TextRefusal *r, const char *wanted, const char *hint) {
        snprintf(r->wanted, sizeof r->wanted, "%s", wanted);
        snprintf(r->hint, sizeof r->hint, "%s", hint);
        return -EINVAL;
}

static int scalar_parse_unsigned(
        const char *text, size_t length, uint64_t most, uint64_t *ret, TextRefusal *r) {
        if (units_parse_number(text, length, ret) == 0 && *ret <= most)
                return 0;
        scalar_refuse(r, "", "");
        snprintf(r->wanted, sizeof r->wanted, "a whole number from 0 to %" PRIu64, most);
        return -EINVAL;
}

static int
scalar_parse_signed(const char *text, size_t length, int64_t least, int64_t *ret, TextRefusal *r) {
        bool negative = length > 0 && text[0] == '-';
        uint64_t most = negative ? 0 - (uint64_t)least : (uint64_t) - (least + 1), value;

        if (units_parse_number(text + negative, length - negative, &value) == 0 && value <= most) {
                *ret = negative ? (int64_t)(0 - value) : (int64_t)value;
                return 0;
        }
        scalar_refuse(r, "", "");
        snprintf(r->wanted, sizeof r->wanted, "a whole number from %" PRId64 " to %" PRId64, least,
                 -(least + 1));
        return -EINVAL;
}

static int scalar_parse_unit(const Field *f,
                             const char *text,
                             size_t length,
                             uint64_t most,
                             uint64_t *ret,
                             TextRefusal *refusal) {
        static const struct {
                int (*parse)(const char *s, size_t n, uint64_t *ret);
                const char *wanted, *hint;
        } units[] = {
                [TEXT_UNIT_SIZE] = {units_parse_size, "a size", "write it as 512MiB or 4GiB"},
                [TEXT_UNIT_DURATION] = {units_parse_duration, "a duration",
                                        "write it with a unit, as 250ms, 90s or 1h30m"},
                [TEXT_UNIT_TIME] = {units_parse_time, "a point in time",
                                    "write it in UTC, as 2026-01-31T12:00:00Z"},
        };
        TextUnit unit = text_field_unit(f);
        int r;

        if (unit == TEXT_UNIT_NONE)
                return scalar_parse_unsigned(text, length, most, ret, refusal);
        r = units[unit].parse(text, length, ret);
        if (r == 0 && *ret <= most)
                return 0;
        scalar_refuse(refusal, units[unit].wanted,
                      r == -EINVAL ? units[unit].hint
                                   : "it is too large, or not a whole number of the smallest unit");
        return -EINVAL;
}

static void scalar_list_enum(const ProtobufCEnumDescriptor *d, char *to, size_t room) {
        size_t used = 0;
        const char *comma = "";

        for (unsigned i = 0; i < d->n_values && used < room; i++) {
                if (d->values[i].value == 0) /* "unspecified": accepted, but nobody needs to know */
                        continue;
                used += (size_t)snprintf(to + used, room - used, "%s%s", comma,
                                         text_enum(d, d->values[i].value));
                comma = i + 2 < d->n_values ? ", " : " or ";
        }
}

static int scalar_parse_enum(const ProtobufCEnumDescriptor *d,
                             const char *text,
                             size_t length,
                             int32_t *ret,
                             TextRefusal *refusal) {
        const ProtobufCEnumValue *value = text_enum_find(d, text, length);
        const char *known[64], *near;
        char word[64];
        int64_t number;
        size_t n = 0;

        if (value) {
                *ret = value->value;
                return 0;
        }
        /* A number stands for an enumerator that only a newer carrel has a name for: it printed
         * that. */
        if (scalar_parse_signed(text, length, INT32_MIN, &number, refusal) == 0 &&
            strcmp(text_enum(d, (int)number), "?") == 0) {
                *ret = (int32_t)number;
                return 0;
        }
        scalar_refuse(refusal, "", "");
        scalar_list_enum(d, refusal->wanted, sizeof refusal->wanted);
        for (unsigned i = 0; i < d->n_values && n < ELEMENTSOF(known); i++)
                if (d->values[i].value != 0)
                        known[n++] = text_enum(d, d->values[i].value);
        snprintf(word, sizeof word, "%.*s", (int)MIN_OF(length, sizeof word), text);
        near = text_suggest(word, known, n);
        if (near)
                snprintf(refusal->hint, sizeof refusal->hint, "did you mean '%s'?", near);
        return -EINVAL;
}

static int scalar_parse_string(const char *text, size_t length, char **ret, TextRefusal *refusal) {
        char *copy;

        if (memchr(text, 0, length))
                return scalar_refuse(refusal, "text without zero bytes", "");
        copy = strndup(text, length);
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

static int scalar_parse_bool(const char *text,
                             size_t length,
                             bool plain,
                             protobuf_c_boolean *ret,
                             TextRefusal *refusal) {
        *ret = length == 4 && memcmp(text, "true", 4) == 0;
        if (plain && (*ret || (length == 5 && memcmp(text, "false", 5) == 0)))
                return 0;
        return scalar_refuse(refusal, "true or false", plain ? "" : "write it without quotes");
}

int text_scalar_parse(const Field *f,
                      const char *text,
                      size_t length,
                      bool plain,
                      TextValue *ret,
                      TextRefusal *refusal) {
        TextValue v = {};
        uint64_t u = 0;
        int64_t i = 0;
        int r;

        switch (f->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                r = scalar_parse_signed(text, length, INT32_MIN, &i, refusal);
                v.i32 = (int32_t)i;
                break;
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                r = scalar_parse_signed(text, length, INT64_MIN, &v.i64, refusal);
                break;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                r = scalar_parse_unit(f, text, length, UINT32_MAX, &u, refusal);
                v.u32 = (uint32_t)u;
                break;
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                r = scalar_parse_unit(f, text, length, UINT64_MAX, &v.u64, refusal);
                break;
        case PROTOBUF_C_TYPE_BOOL:
                r = scalar_parse_bool(text, length, plain, &v.boolean, refusal);
                break;
        case PROTOBUF_C_TYPE_ENUM:
                r = scalar_parse_enum(f->descriptor, text, length, &v.i32, refusal);
                break;
        case PROTOBUF_C_TYPE_STRING:
                r = scalar_parse_string(text, length, &v.string, refusal);
                break;
        case PROTOBUF_C_TYPE_BYTES:
                r = base64_decode(text, length, &v.bytes.data, &v.bytes.len);
                if (r == -EINVAL)
                        scalar_refuse(refusal, "base64", "");
                break;
        default: /* float and double: no schema of carrel has any */
                r = scalar_refuse(refusal, "left out: its type has no text form", "");
        }
        if (r == 0)
                *ret = v;
        return r;
}

static char *scalar_print_unsigned(const Field *f, uint64_t value, bool *ret_bare) {
        char text[UNITS_TEXT_SIZE];

        switch (text_field_unit(f)) {
        case TEXT_UNIT_SIZE:
                units_print_size(value, text);
                break;
        case TEXT_UNIT_DURATION:
                units_print_duration(value, text);
                break;
        case TEXT_UNIT_TIME:
                units_print_time(value, text);
                break;
        default:
                snprintf(text, sizeof text, "%" PRIu64, value);
        }
        *ret_bare = strspn(text, "0123456789") == strlen(text);
        return strdup(text);
}

static char *scalar_print_signed(int64_t value, bool *ret_bare) {
        char text[UNITS_TEXT_SIZE];

        snprintf(text, sizeof text, "%" PRId64, value);
        *ret_bare = true;
        return strdup(text);
}

char *text_scalar_print(const Field *f, const TextValue *v, bool *ret_bare) {
        *ret_bare = false;
        switch (f->type) {
        case PROTOBUF_C_TYPE_INT32:
        case PROTOBUF_C_TYPE_SINT32:
        case PROTOBUF_C_TYPE_SFIXED32:
                return scalar_print_signed(v->i32, ret_bare);
        case PROTOBUF_C_TYPE_INT64:
        case PROTOBUF_C_TYPE_SINT64:
        case PROTOBUF_C_TYPE_SFIXED64:
                return scalar_print_signed(v->i64, ret_bare);
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_FIXED32:
                return scalar_print_unsigned(f, v->u32, ret_bare);
        case PROTOBUF_C_TYPE_UINT64:
        case PROTOBUF_C_TYPE_FIXED64:
                return scalar_print_unsigned(f, v->u64, ret_bare);
        case PROTOBUF_C_TYPE_BOOL:
                *ret_bare = true;
                return strdup(v->boolean ? "true" : "false");
        case PROTOBUF_C_TYPE_ENUM:
                if (strcmp(text_enum(f->descriptor, v->i32), "?") == 0)
                        return scalar_print_signed(v->i32, ret_bare);
                return strdup(text_enum(f->descriptor, v->i32));
        case PROTOBUF_C_TYPE_BYTES:
                return base64_encode(v->bytes.data, v->bytes.len);
        default:
                return strdup("?");
        }
}
