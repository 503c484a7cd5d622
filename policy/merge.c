/*
 * One policy laid over another, by the schema's descriptors
 *
 * A scalar or text that is set (not zero, not empty) overrides; a message is merged field by field;
 * a list is appended, the child's after the parent's; a map's entry overrides the one with its key.
 * No field is named here, so a field that the schema gains is merged without a change to this file.
 *
 * Invariant: what the result holds is its own; @child is left as it is.
 */
#include <string.h>

#include "policy/concerns.h"
#include "proto/text/field.h"

#define MEMBER(message, offset)       ((void *)((char *)(message) + (offset)))
#define MEMBER_CONST(message, offset) ((const void *)((const char *)(message) + (offset)))

/* Merged by key; the policy's maps have names for keys. */
static bool merge_is_map(const ProtobufCFieldDescriptor *f) {
        const ProtobufCMessageDescriptor *d = f->descriptor;

        return text_field_is_map(f) && d->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static const char *merge_map_key(const ProtobufCFieldDescriptor *f, const void *entry) {
        const ProtobufCMessageDescriptor *d = f->descriptor;

        return *(char *const *)MEMBER_CONST(entry, d->fields[0].offset);
}

/* Deep-copies one element into @to, which holds nothing yet. */
static int merge_copy_element(const ProtobufCFieldDescriptor *f, void *to, const void *from) {
        const ProtobufCBinaryData *bytes = from;
        ProtobufCBinaryData copy = {.len = 0};

        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                *(char **)to = strdup(*(char *const *)from);
                return *(char **)to ? 0 : -ENOMEM;
        case PROTOBUF_C_TYPE_MESSAGE:
                *(void **)to = message_copy(*(Message *const *)from);
                return *(void **)to ? 0 : -ENOMEM;
        case PROTOBUF_C_TYPE_BYTES:
                copy.data = malloc(bytes->len ?: 1);
                if (!copy.data)
                        return -ENOMEM;
                memcpy(copy.data, bytes->data, bytes->len);
                copy.len = bytes->len;
                *(ProtobufCBinaryData *)to = copy;
                return 0;
        default:
                memcpy(to, from, text_field_size(f));
                return 0;
        }
}

/* Replaces the entry with the same key. Return: 1 if there was one. */
static int
merge_map_entry(const ProtobufCFieldDescriptor *f, void **entries, size_t n, const Message *entry) {
        for (size_t i = 0; i < n; i++) {
                void *copy;

                if (strcmp(merge_map_key(f, entries[i]), merge_map_key(f, entry)) != 0)
                        continue;
                copy = message_copy(entry);
                if (!copy)
                        return -ENOMEM;
                message_free(entries[i]);
                entries[i] = copy;
                return 1;
        }
        return 0;
}

static int merge_append(const ProtobufCFieldDescriptor *f, Message *parent, const void *element) {
        size_t *n = MEMBER(parent, f->quantifier_offset), size = text_field_size(f);
        void **array = MEMBER(parent, f->offset), *more;
        int r;

        more = reallocarray(*array, *n + 1, size);
        if (!more)
                return -ENOMEM;
        *array = more;
        r = merge_copy_element(f, (char *)more + *n * size, element);
        if (r == 0)
                (*n)++;
        return r;
}

static int merge_list(const ProtobufCFieldDescriptor *f, Message *parent, const Message *child) {
        size_t n = *(const size_t *)MEMBER_CONST(child, f->quantifier_offset),
               size = text_field_size(f);
        const char *elements = *(const char *const *)MEMBER_CONST(child, f->offset);
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                const void *element = elements + i * size;

                r = 0;
                if (merge_is_map(f))
                        r = merge_map_entry(f, *(void ***)MEMBER(parent, f->offset),
                                            *(size_t *)MEMBER(parent, f->quantifier_offset),
                                            *(Message *const *)element);
                if (r == 0)
                        r = merge_append(f, parent, element);
        }
        return MIN_OF(r, 0);
}

static int merge_message(Message *parent, const Message *child);

static int merge_single(const ProtobufCFieldDescriptor *f, Message *parent, const Message *child) {
        static const char zero[sizeof(ProtobufCBinaryData)];
        void *to = MEMBER(parent, f->offset);
        const void *from = MEMBER_CONST(child, f->offset);

        switch (f->type) {
        case PROTOBUF_C_TYPE_STRING:
                return **(char *const *)from ? message_set_string(to, *(char *const *)from) : 0;
        case PROTOBUF_C_TYPE_MESSAGE:
                if (!*(Message *const *)from)
                        return 0;
                if (*(Message **)to)
                        return merge_message(*(Message **)to, *(Message *const *)from);
                return merge_copy_element(f, to, from);
        case PROTOBUF_C_TYPE_BYTES:
                if (((const ProtobufCBinaryData *)from)->len == 0)
                        return 0;
                free(((ProtobufCBinaryData *)to)->data);
                *(ProtobufCBinaryData *)to = (ProtobufCBinaryData){.len = 0};
                return merge_copy_element(f, to, from);
        default:
                if (memcmp(from, zero, text_field_size(f)) == 0)
                        return 0;
                return merge_copy_element(f, to, from);
        }
}

/* Recursion is as deep as the schema, which is no input. */
static int merge_message(Message *parent, const Message *child) {
        const ProtobufCMessageDescriptor *d = parent->descriptor;
        int r = 0;

        for (unsigned i = 0; i < d->n_fields && r == 0; i++)
                r = d->fields[i].label == PROTOBUF_C_LABEL_REPEATED
                            ? merge_list(&d->fields[i], parent, child)
                            : merge_single(&d->fields[i], parent, child);
        return r;
}

int policy_merge(Policy *parent, const Policy *child, Error **reterr) {
        int r = merge_message(&parent->base, &child->base);

        return r < 0 ? error_set(reterr, -r, "cannot merge policy '%s'", child->name) : 0;
}
