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
        _cleanup_free_ uint8_t *data = NULL;
        void *copy = NULL;
        size_t size;

        if (message_pack(m, &data, &size) < 0 || message_unpack(m->descriptor, data, size, &copy) < 0)
                return NULL;
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
