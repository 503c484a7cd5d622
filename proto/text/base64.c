#include "proto/text/base64.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static const char base64_letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const uint8_t *data, size_t size) {
        char *text = malloc((size + 2) / 3 * 4 + 1), *to = text;

        if (!text)
                return NULL;
        for (size_t i = 0; i < size; i += 3) {
                size_t n = MIN_OF(size - i, (size_t)3);
                uint32_t group = 0;

                for (size_t k = 0; k < 3; k++)
                        group = group << 8 | (k < n ? data[i + k] : 0u);
                for (size_t k = 0; k < 4; k++)
                        *to++ = k <= n ? base64_letters[group >> (18 - 6 * k) & 63] : '=';
        }
        *to = 0;
        return text;
}

/* Four letters to at most three bytes. Return: how many, or -EINVAL. */
static int base64_decode_group(const char *text, uint8_t ret[static 3]) {
        size_t n = text[3] != '=' ? 4 : text[2] != '=' ? 3 : 2;
        uint32_t group = 0;

        for (size_t k = 0; k < 4; k++) {
                const char *letter = k < n && text[k] ? strchr(base64_letters, text[k]) : NULL;

                if (k < n && !letter)
                        return -EINVAL;
                group = group << 6 | (letter ? (uint32_t)(letter - base64_letters) : 0);
        }
        for (size_t k = 0; k < 3; k++)
                ret[k] = (uint8_t)(group >> (16 - 8 * k));
        /* Bits that no byte takes must be zero: one text for one value. */
        for (size_t k = n - 1; k < 3; k++)
                if (ret[k])
                        return -EINVAL;
        return (int)n - 1;
}

int base64_decode(const char *text, size_t length, uint8_t **ret_data, size_t *ret_size) {
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = 0;

        if (length % 4 != 0)
                return -EINVAL;
        if (length > 0) {
                data = malloc(length / 4 * 3);
                if (!data)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < length; i += 4) {
                int n = base64_decode_group(text + i, data + size);

                if (n < 0 || (n < 3 && i + 4 < length))
                        return -EINVAL;
                size += (size_t)n;
        }
        *ret_data = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}
