#include "proto/text/utf8.h"

#include <stdlib.h>
#include <string.h>

size_t utf8_next(const char *s, size_t n, uint32_t *ret_character) {
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        unsigned char first;
        size_t length;
        uint32_t c;

        if (n == 0)
                return 0;
        first = (unsigned char)s[0];
        length = first < 0x80   ? 1
                 : first < 0xc0 ? 0
                 : first < 0xe0 ? 2
                 : first < 0xf0 ? 3
                 : first < 0xf8 ? 4
                                : 0;
        if (length == 0 || length > n)
                return 0;
        c = length == 1 ? first : first & (0x7fu >> length);
        for (size_t i = 1; i < length; i++) {
                if (((unsigned char)s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | ((unsigned char)s[i] & 0x3f);
        }
        if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret_character = c;
        return length;
}

size_t utf8_valid_length(const char *s, size_t n) {
        size_t done = 0;

        while (done < n) {
                uint32_t c;
                size_t length = utf8_next(s + done, n - done, &c);

                if (length == 0)
                        break;
                done += length;
        }
        return done;
}

char *utf8_repair(const char *s) {
        static const char replacement[] = "\xef\xbf\xbd";
        size_t n = strlen(s), used = 0;
        char *copy = malloc(n * 3 + 1); /* the worst: each byte becomes three */

        if (!copy)
                return NULL;
        while (n > 0) {
                uint32_t c;
                size_t length = utf8_next(s, n, &c);

                memcpy(copy + used, length ? s : replacement, length ?: 3);
                used += length ?: 3;
                s += length ?: 1;
                n -= length ?: 1;
        }
        copy[used] = 0;
        return copy;
}
