/*
 * Materialized image roots, kept at hand
 *
 * To see that a root is still what its definition stands for, every source has to be looked at: too
 * much for each start. So a root that was looked at within the last second is taken as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "images/image.h"
#include "supervisor/supervisor.h"

#define ROOT_TRUSTED_US (1 * USEC_PER_SEC)

struct Root {
        Root *next;
        char *key; /* definition's digest, user, uid */
        int fd;
        uint64_t checked_us;
};

static Root *root_free(Root *root) {
        if (!root)
                return NULL;
        fd_close(root->fd);
        free(root->key);
        free(root);
        return NULL;
}

static void root_freep(Root **root) {
        *root = root_free(*root);
}

void roots_free(Supervisor *sv) {
        while (sv->roots) {
                Root *root = sv->roots;

                sv->roots = root->next;
                root_free(root);
        }
}

static Root **root_find(Supervisor *sv, const char *key) {
        Root **p = &sv->roots;

        while (*p && strcmp((*p)->key, key) != 0)
                p = &(*p)->next;
        return p;
}

static int root_make(Supervisor *sv,
                     const Image *image,
                     const ImageUser *user,
                     char *key,
                     Root **ret_root,
                     Error **reterr) {
        _cleanup_(root_freep) Root *root = calloc(1, sizeof *root);
        int r;

        if (!root) {
                free(key);
                return error_set(reterr, ENOMEM, "cannot hold an image's root");
        }
        root->fd = -EBADF;
        root->key = key;
        root->checked_us = clock_boottime_us();
        r = image_materialize(sv->state_fd, image, user, &root->fd, reterr);
        if (r < 0)
                return r;
        root->next = sv->roots;
        sv->roots = root;
        *ret_root = TAKE_PTR(root);
        return 0;
}

int roots_open(Supervisor *sv,
               const Image *image,
               const char *digest,
               const ImageUser *user,
               int *ret_fd,
               Error **reterr) {
        Root **found, *root;
        char *key = NULL;
        int r;

        if (asprintf(&key, "%s %s %u", digest, user->name, user->uid) < 0)
                return error_set(reterr, ENOMEM, "cannot hold an image's root");
        found = root_find(sv, key);
        if (*found && clock_boottime_us() - (*found)->checked_us > ROOT_TRUSTED_US) {
                root = *found;
                *found = root->next;
                root_free(root);
                found = NULL;
        }
        root = found ? *found : NULL;
        if (root) {
                free(key);
        } else {
                r = root_make(sv, image, user, key, &root, reterr);
                if (r < 0)
                        return r;
        }
        *ret_fd = fcntl(root->fd, F_DUPFD_CLOEXEC, 3);
        return *ret_fd < 0 ? error_set(reterr, errno, "cannot hold an image's root") : 0;
}
