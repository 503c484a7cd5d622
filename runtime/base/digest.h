/* SHA-256 by OpenSSL, in the forms that carrel uses. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

#define DIGEST_SIZE 32
#define DIGEST_TEXT_SIZE                                                                           \
        sizeof("sha256:"                                                                           \
               "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

/** digest_bytes() - SHA-256 of a buffer. */
void digest_bytes(const void *data, size_t size, uint8_t ret_digest[static DIGEST_SIZE]);

/** digest_text() - "sha256:<hex>" of a digest. */
void digest_text(const uint8_t digest[static DIGEST_SIZE], char ret_text[static DIGEST_TEXT_SIZE]);

/** digest_copy() - copy @size bytes at @offset of @from to @to (-EBADF: nowhere), and digest them
 * on the way; @size UINT64_MAX means to the end. Return: 0, -ENODATA where @from ends early,
 * -errno. */
int digest_copy(int from,
                off_t offset,
                uint64_t size,
                int to,
                uint8_t ret_digest[static DIGEST_SIZE],
                uint64_t *ret_size);
