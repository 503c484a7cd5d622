/*
 * Artifacts by digest (store.h)
 *
 * Trust:     the bytes and the descriptor they come from are an agent's; a digest may come from
 * anywhere and is checked character by character before it becomes a path. Invariant: a name
 * appears by link(2) of a file that is complete and on disk. The temporary file has no name
 *            (O_TMPFILE), so a killed writer leaves nothing; only where the file system cannot do
 * that it is called ".incoming-<random>".
 */
#include "record/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/fd.h"

#define STORE_ALGORITHM "sha256"
#define STORE_PREFIX    STORE_ALGORITHM ":"

/* "sha256/ab/cdef...": one character more than the digest's text, for the second '/'. */
#define STORE_PATH_SIZE (DIGEST_TEXT_SIZE + 1)

typedef struct StoreTemporary {
        int fd;
        int store_fd;                                   /* borrowed */
        char name[sizeof ".incoming-0123456789abcdef"]; /* empty: it has none */
} StoreTemporary;

static void store_temporary_done(StoreTemporary *t) {
        t->fd = fd_close(t->fd);
        if (*t->name)
                unlinkat(t->store_fd, t->name, 0);
}

static int store_temporary_open(StoreTemporary *t) {
        uint64_t random;

        t->fd = openat(t->store_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (t->fd >= 0)
                return 0;
        if (errno != EOPNOTSUPP && errno != EISDIR)
                return -errno;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
                return -errno;
        snprintf(t->name, sizeof t->name, ".incoming-%016" PRIx64, random);
        t->fd = openat(t->store_fd, t->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                       0600);
        if (t->fd < 0) {
                *t->name = 0;
                return -errno;
        }
        return 0;
}

/* Gives the file its name; -EEXIST where the name is taken. */
static int store_temporary_link(StoreTemporary *t, const char *path) {
        char proc[sizeof "/proc/self/fd/-2147483648"];
        int r;

        if (*t->name)
                r = linkat(t->store_fd, t->name, t->store_fd, path, 0);
        else {
                snprintf(proc, sizeof proc, "/proc/self/fd/%d", t->fd);
                r = linkat(AT_FDCWD, proc, t->store_fd, path, AT_SYMLINK_FOLLOW);
        }
        return r < 0 ? -errno : 0;
}

static bool store_digest_valid(const char *digest) {
        const char *hex = digest + strlen(STORE_PREFIX);

        return strlen(digest) == DIGEST_TEXT_SIZE - 1 &&
               strncmp(digest, STORE_PREFIX, strlen(STORE_PREFIX)) == 0 &&
               strspn(hex, "0123456789abcdef") == 2 * DIGEST_SIZE;
}

static int store_path(const char *digest, char ret_path[static STORE_PATH_SIZE], Error **reterr) {
        const char *hex = digest + strlen(STORE_PREFIX);

        if (!store_digest_valid(digest))
                return error_refuse(reterr, EINVAL, "write it as 'sha256:' and 64 digits 0-9, a-f",
                                    "'%.80s' is no digest", digest);
        snprintf(ret_path, STORE_PATH_SIZE, STORE_ALGORITHM "/%.2s/%s", hex, hex + 2);
        return 0;
}

/* The two directories above a name. */
static int store_make_parents(int store_fd, const char *path) {
        char parent[sizeof STORE_ALGORITHM "/ab"];

        if (mkdirat(store_fd, STORE_ALGORITHM, 0755) < 0 && errno != EEXIST)
                return -errno;
        snprintf(parent, sizeof parent, "%.*s", (int)sizeof parent - 1, path);
        if (mkdirat(store_fd, parent, 0755) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

/* Makes the whole, digested file durable under its name. */
static int store_keep(StoreTemporary *t, const char *digest, Error **reterr) {
        char path[STORE_PATH_SIZE];
        int r;

        r = store_path(digest, path, reterr);
        if (r < 0)
                return r;
        r = store_make_parents(t->store_fd, path);
        if (r < 0)
                return error_set(reterr, -r, "cannot store artifact '%s'", digest);
        if (fchmod(t->fd, 0444) < 0 || fdatasync(t->fd) < 0)
                return error_set(reterr, errno, "cannot store artifact '%s'", digest);
        r = store_temporary_link(t, path);
        if (r < 0 && r != -EEXIST)
                return error_set(reterr, -r, "cannot store artifact '%s'", digest);
        return 0;
}

static int store_check(const char *digest, const char *expected, Error **reterr) {
        if (!expected || strcmp(digest, expected) == 0)
                return 0;
        return error_refuse(reterr, EBADMSG, NULL,
                            "cannot store an artifact: its bytes have the digest '%s', not '%.80s'",
                            digest, expected);
}

int store_put(int store_fd,
              int from_fd,
              off_t offset,
              uint64_t size,
              const char *expected,
              char **ret_digest,
              Error **reterr) {
        _cleanup_(store_temporary_done) StoreTemporary t = {.fd = -EBADF, .store_fd = store_fd};
        char text[DIGEST_TEXT_SIZE];
        uint8_t digest[DIGEST_SIZE];
        char *copy = NULL;
        int r;

        r = store_temporary_open(&t);
        if (r < 0)
                return error_set(reterr, -r, "cannot create a file for an artifact");
        r = digest_copy(from_fd, offset, size, t.fd, digest, NULL);
        if (r == -ENODATA)
                return error_refuse(reterr, ENODATA, NULL,
                                    "cannot store an artifact: it has fewer than %" PRIu64 " bytes",
                                    size);
        if (r < 0)
                return error_set(reterr, -r, "cannot copy an artifact of %" PRIu64 " bytes", size);
        digest_text(digest, text);
        r = store_check(text, expected, reterr);
        if (r < 0)
                return r;
        if (ret_digest && !(copy = strdup(text)))
                return error_set(reterr, ENOMEM, "cannot store artifact '%s'", text);
        r = store_keep(&t, text, reterr);
        if (r < 0) {
                free(copy);
                return r;
        }
        if (ret_digest)
                *ret_digest = copy;
        return 0;
}

int store_open(int store_fd, const char *digest, Error **reterr) {
        char path[STORE_PATH_SIZE];
        int r;

        r = store_path(digest, path, reterr);
        if (r < 0)
                return r;
        r = path_open_beneath(store_fd, path, O_RDONLY | O_NOCTTY, 0);
        if (r < 0)
                return error_set(reterr, -r, "cannot open artifact '%s'", digest);
        return r;
}
