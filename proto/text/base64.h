/* Base64 (RFC 4648, section 4), for bytes in text. Only the canonical form is accepted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/** base64_encode() - in a fresh string; NULL when memory is out. */
char *base64_encode(const uint8_t *data, size_t size);

/** base64_decode() - Return: 0 and fresh bytes (NULL when there are none), -EINVAL, -ENOMEM. */
int base64_decode(const char *text, size_t length, uint8_t **ret_data, size_t *ret_size);
