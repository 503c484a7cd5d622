#include "base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

static void digest_context_freep(EVP_MD_CTX **c) {
        EVP_MD_CTX_free(*c);
}

void digest_bytes(const void *data, size_t size, uint8_t ret_digest[static DIGEST_SIZE]) {
        SHA256(data, size, ret_digest);
}

void digest_text(const uint8_t digest[static DIGEST_SIZE], char ret_text[static DIGEST_TEXT_SIZE]) {
        static const char hex[] = "0123456789abcdef";
        char *p = stpcpy(ret_text, "sha256:");

        for (size_t i = 0; i < DIGEST_SIZE; i++) {
                *p++ = hex[digest[i] >> 4];
                *p++ = hex[digest[i] & 15];
        }
        *p = 0;
}

int digest_copy(int from,
                off_t offset,
                uint64_t size,
                int to,
                uint8_t ret_digest[static DIGEST_SIZE],
                uint64_t *ret_size) {
        _cleanup_(digest_context_freep) EVP_MD_CTX *context = EVP_MD_CTX_new();
        uint64_t done = 0;
        char block[65536];

        if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL))
                return -ENOMEM;
        while (done < size) {
                ssize_t n =
                        pread(from, block, MIN_OF(size - done, sizeof block), offset + (off_t)done);
                int r;

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (n == 0) {
                        if (size != UINT64_MAX)
                                return -ENODATA;
                        break;
                }
                if (!EVP_DigestUpdate(context, block, (size_t)n))
                        return -ENOMEM;
                if (to >= 0) {
                        r = fd_write_all(to, block, (size_t)n);
                        if (r < 0)
                                return r;
                }
                done += (uint64_t)n;
        }
        if (!EVP_DigestFinal_ex(context, ret_digest, NULL))
                return -ENOMEM;
        if (ret_size)
                *ret_size = done;
        return 0;
}
