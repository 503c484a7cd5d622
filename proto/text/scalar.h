/* Single values: a field's text to its value and back. */
#pragma once

#include "proto/text/field.h"

/* Why a text is no value of its field, in words that complete "'attempts' must be ...". */
typedef struct TextRefusal {
        char wanted[256];
        char hint[256]; /* may be empty */
} TextRefusal;

/**
 * text_scalar_parse() - @text as a value of @f, which is no message
 * @plain: it stood there without quotes
 *
 * Return: 0 and a value that owns what it points to; -EINVAL with @ret_refusal; -ENOMEM.
 */
int text_scalar_parse(const Field *f,
                      const char *text,
                      size_t length,
                      bool plain,
                      TextValue *ret,
                      TextRefusal *ret_refusal);

/**
 * text_scalar_print() - a value of @f, which is neither message nor string, as text
 * @ret_bare: a number, true or false: JSON writes these without quotes
 *
 * Return: fresh text, or NULL when memory is out.
 */
char *text_scalar_print(const Field *f, const TextValue *v, bool *ret_bare);
