/* Bounds of numbers as tables, for any message. */
#include <string.h>

#include "policy/concerns.h"
#include "proto/text/text.h"

static const Message *number_step(const Message *m,
                                  const char *name,
                                  size_t size,
                                  const ProtobufCFieldDescriptor **ret_field) {
        char part[64] = "";

        memcpy(part, name, MIN_OF(size, sizeof part - 1));
        *ret_field = protobuf_c_message_descriptor_get_field_by_name(m->descriptor, part);
        if (!*ret_field || (*ret_field)->type != PROTOBUF_C_TYPE_MESSAGE)
                return NULL;
        return *(Message *const *)((const char *)m + (*ret_field)->offset);
}

/* 0 where a message on the way is not there. */
static uint64_t number_get(const Message *m, const char *field) {
        const ProtobufCFieldDescriptor *f = NULL;
        const char *at;

        for (;; field += strcspn(field, ".") + 1) {
                const Message *next = number_step(m, field, strcspn(field, "."), &f);

                if (!strchr(field, '.'))
                        break;
                if (!next)
                        return 0;
                m = next;
        }
        if (!f)
                return 0;
        at = (const char *)m + f->offset;
        return f->type == PROTOBUF_C_TYPE_UINT64 ? *(const uint64_t *)at : *(const uint32_t *)at;
}

static bool number_has_unit(const char *field, const char *unit) {
        size_t size = strlen(field), tail = strlen(unit);

        return size > tail && strcmp(field + size - tail, unit) == 0;
}

static char *number_text(const char *field, uint64_t value) {
        char *s = NULL;

        if (number_has_unit(field, "_bytes"))
                return text_size(value);
        if (number_has_unit(field, "_us"))
                return text_duration(value);
        return asprintf(&s, "%llu", (unsigned long long)value) < 0 ? NULL : s;
}

/* The name in text: without the unit. */
static int number_name(const char *field) {
        const char *const units[] = {"_unix_us", "_bytes", "_us"};

        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (number_has_unit(field, units[i]))
                        return (int)(strlen(field) - strlen(units[i]));
        return (int)strlen(field);
}

static int
number_refuse(const char *prefix, const NumberRule *rule, uint64_t value, Error **reterr) {
        _cleanup_free_ char *is = number_text(rule->field, value),
                            *min = number_text(rule->field, rule->min),
                            *max = number_text(rule->field, rule->max);
        int name = number_name(rule->field);

        if (value == 0)
                error_refuse(reterr, EINVAL, NULL, "'%s%.*s' is not set", prefix, name,
                             rule->field);
        else
                error_refuse(reterr, EINVAL, rule->hint, "'%s%.*s' is %s: it must be %s to %s",
                             prefix, name, rule->field, is ?: "?", min ?: "?", max ?: "?");
        error_hint(reterr, -EINVAL, "write a value from %s to %s", min ?: "?", max ?: "?");
        return error_field(reterr, -EINVAL, "%s%.*s", prefix, name, rule->field);
}

int numbers_check(const Message *m,
                  const char *prefix,
                  const NumberRule *rules,
                  size_t n,
                  bool complete,
                  Error **reterr) {
        for (size_t i = 0; i < n; i++) {
                uint64_t value = number_get(m, rules[i].field);

                if (value == 0 ? complete : value < rules[i].min || value > rules[i].max)
                        return number_refuse(prefix, &rules[i], value, reterr);
        }
        return 0;
}
