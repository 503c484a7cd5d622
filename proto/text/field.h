/*
 * Fields as the text sees them: their names, units and values, from protobuf-c's descriptors
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

typedef ProtobufCFieldDescriptor Field;

typedef enum TextUnit {
        TEXT_UNIT_NONE,
        TEXT_UNIT_SIZE,     /* *_bytes */
        TEXT_UNIT_DURATION, /* *_us */
        TEXT_UNIT_TIME,     /* *_unix_us */
} TextUnit;

/* One value of any field; which member counts is its type's matter. */
typedef union TextValue {
        int32_t i32;
        uint32_t u32;
        int64_t i64;
        uint64_t u64;
        protobuf_c_boolean boolean;
        char *string;
        ProtobufCBinaryData bytes;
        Message *message;
} TextValue;

TextUnit text_field_unit(const Field *f);

/** text_field_name_length() - how much of f->name the text shows: all but the unit's suffix. */
int text_field_name_length(const Field *f);

/** text_field_find() - by the text's name. NULL: unknown. */
const Field *text_field_find(const MessageDescriptor *d, const char *name, size_t length);

bool text_field_is_oneof(const Field *f);

/** text_field_is_map() - a repeated field of entries with exactly a key and a value. */
bool text_field_is_map(const Field *f);

/** text_field_size() - bytes of one value in a message or its array. */
size_t text_field_size(const Field *f);

/** text_value_free() - what a value that never came into a message owns. */
void text_value_free(const Field *f, TextValue *v);

/** text_enum_find() - by the text's name. NULL: unknown. */
const ProtobufCEnumValue *
text_enum_find(const ProtobufCEnumDescriptor *d, const char *name, size_t length);
