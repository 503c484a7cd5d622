#include "proto/messages.h"

#include <errno.h>
#include <string.h>

int message_pack(const Message *m, uint8_t **ret_data, size_t *ret_size) {
        size_t size = protobuf_c_message_get_packed_size(m);
        uint8_t *data = malloc(size ?: 1);

        if (!data)
                return -ENOMEM;
        protobuf_c_message_pack(m, data);
        *ret_data = data;
        *ret_size = size;
        return 0;
}

int message_unpack(const MessageDescriptor *d, const void *data, size_t size, void **ret_message) {
        Message *m = protobuf_c_message_unpack(d, NULL, size, data);

        if (!m)
                return -EBADMSG;
        *ret_message = m;
        return 0;
}

void *message_copy(const Message *m) {
        uint8_t *data = NULL;
        void *copy = NULL;
        size_t size;

        if (message_pack(m, &data, &size) < 0)
                return NULL;
        if (message_unpack(m->descriptor, data, size, &copy) < 0)
                copy = NULL;
        explicit_bzero(data, size); /* it may hold a credential */
        free(data);
        return copy;
}

void *message_new(const MessageDescriptor *d) {
        Message *m = malloc(d->sizeof_message);

        if (m)
                protobuf_c_message_init(d, m);
        return m;
}

int message_set_string(char **field, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        if (*field != protobuf_c_empty_string)
                free(*field);
        *field = copy;
        return 0;
}

int message_append(void *array, size_t *n, void *item) {
        void ***items = array;
        void **more = reallocarray(*items, *n + 1, sizeof *more);

        if (!more)
                return -ENOMEM;
        *items = more;
        more[(*n)++] = item;
        return 0;
}

/* Bytes of the well-formed UTF-8 sequence at @p (RFC 3629), 0 where there is none. */
static size_t message_utf8_length(const unsigned char *p) {
        size_t n = *p < 0x80                 ? 1
                   : *p >= 0xc2 && *p < 0xe0 ? 2
                   : *p >= 0xe0 && *p < 0xf0 ? 3
                   : *p >= 0xf0 && *p < 0xf5 ? 4
                                             : 0;

        for (size_t i = 1; i < n; i++)
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
                return 0; /* overlong, a surrogate, or past U+10FFFF */
        return n;
}

static void message_make_string_valid(char *s) {
        for (unsigned char *p = (unsigned char *)s; p && *p;) {
                size_t n = message_utf8_length(p);

                if (n == 0)
                        *p = '?';
                p += n ?: 1;
        }
}

static void message_make_member_valid(const ProtobufCFieldDescriptor *field, void *member) {
        if (field->type == PROTOBUF_C_TYPE_STRING)
                message_make_string_valid(*(char **)member);
        else if (field->type == PROTOBUF_C_TYPE_MESSAGE && *(Message **)member)
                message_make_text_valid(*(Message **)member);
}

void message_make_text_valid(Message *m) {
        for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
                const ProtobufCFieldDescriptor *field = &m->descriptor->fields[i];
                char *member = (char *)m + field->offset;

                if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE)
                        continue;
                if (field->label == PROTOBUF_C_LABEL_REPEATED) {
                        size_t n = *(size_t *)(void *)((char *)m + field->quantifier_offset);

                        for (size_t k = 0; k < n; k++)
                                message_make_member_valid(field, (*(void ***)(void *)member) + k);
                } else if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
                           *(uint32_t *)(void *)((char *)m + field->quantifier_offset) ==
                                   field->id) {
                        message_make_member_valid(field, member);
                }
        }
}

ErrorMessage *error_to_message(const Error *e) {
        _cleanup_message_ ErrorMessage *m = NULL;

        if (!e)
                return NULL;
        m = message_new(&carrel__v1__error__descriptor);
        if (!m)
                return NULL;
        m->code = e->code;
        if ((e->what && message_set_string(&m->what, e->what) < 0) ||
            (e->hint && message_set_string(&m->hint, e->hint) < 0) ||
            (e->field && message_set_string(&m->field, e->field) < 0))
                return NULL;
        return TAKE_PTR(m);
}

Error *error_from_message(const ErrorMessage *m) {
        if (!m)
                return NULL;
        return error_new_copy(m->code, m->what, m->hint, m->field);
}
