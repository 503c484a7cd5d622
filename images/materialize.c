/*
 * The root directory that a definition stands for
 *
 *     <state>/images/<name>-<key>/     complete, never changed again
 *     <state>/images/.new/             being made, by the one who holds the lock
 *     <state>/images/.lock
 *
 * The key is a digest of the definition, the harness's user and the identity of every copied
 * source, so a changed source makes a new directory beside the old one, which live workspaces keep
 * using. Who dies while making one leaves .new, which the next one removes.
 *
 * Trust:     privileged. Sources are host paths of the operator's definition; inside the new root
 * every path is resolved beneath it. Invariant: a directory under its final name is whole, on disk
 * too (syncfs before rename). Not here:  removing what no run uses any more; the mounts of 'bind'
 * (workspace/).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fd.h"
#include "images/copy.h"
#include "images/definition.h"
#include "images/image.h"

#define IMAGE_NEW ".new"

/* Directories that every root has; mounts cover most of them. */
static const struct {
        const char *path;
        mode_t mode;
} image_directories[] = {
        {"dev", 0755}, {"etc", 0755}, {"home", 0755}, {"proc", 0755}, {"root", 0700},
        {"run", 0755}, {"sys", 0755}, {"tmp", 01777}, {"var", 0755},  {"var/tmp", 01777},
};

static int image_stamp_all(FILE *f, const Image *image, const ImageUser *user, Error **reterr) {
        ImageBudget budget = {0};
        _cleanup_free_ char *digest = NULL;
        int r = image_digest(image, &digest, reterr);

        if (r < 0)
                return r;
        /* The version covers what this file itself puts into every root. */
        fprintf(f, "1 %s %s %" PRIu32 "%c", digest, user->name, user->uid, 0);
        for (size_t i = 0; i < image->n_copy && r == 0; i++)
                r = image_stamp(f, image->copy[i], &budget, reterr);
        return r;
}

/* "<name>-<32 hexadecimal digits>" */
static int
image_directory_name(const Image *image, const ImageUser *user, char **ret_name, Error **reterr) {
        _cleanup_free_ char *stamps = NULL;
        uint8_t digest[DIGEST_SIZE];
        char text[DIGEST_TEXT_SIZE];
        size_t size = 0;
        FILE *f = open_memstream(&stamps, &size);
        int r;

        if (!f)
                return error_set(reterr, ENOMEM, "cannot make image '%s'", image->name);
        r = image_stamp_all(f, image, user, reterr);
        if (fclose(f) != 0 && r == 0)
                r = error_set(reterr, ENOMEM, "cannot make image '%s'", image->name);
        if (r < 0)
                return r;
        digest_bytes(stamps, size, digest);
        digest_text(digest, text);
        if (asprintf(ret_name, "%s-%.32s", image->name, text + strlen("sha256:")) < 0)
                return error_set(reterr, ENOMEM, "cannot make image '%s'", image->name);
        return 0;
}

/* A directory with that mode and owner, whatever the umask is. @uid 0: the maker's. */
static int
image_make_directory(int root_fd, const char *path, mode_t mode, uint32_t uid, Error **reterr) {
        _cleanup_close_ int fd =
                path_make_dirs_in_root(root_fd, path, 0755, IMAGE_OWNER, IMAGE_OWNER, reterr);
        _cleanup_close_ int open_fd = -EBADF;

        if (fd < 0)
                return fd;
        open_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (open_fd < 0 || (uid && fchown(open_fd, uid, uid) < 0) || fchmod(open_fd, mode) < 0)
                return error_set(reterr, errno, "cannot create '%s' in the image", path);
        return 0;
}

static int
image_make_directories(int root_fd, const Image *image, const ImageUser *user, Error **reterr) {
        _cleanup_free_ char *home = NULL;
        int r = 0;

        if (asprintf(&home, "home/%s", user->name) < 0) {
                home = NULL;
                return error_set(reterr, ENOMEM, "cannot make image '%s'", image->name);
        }
        for (size_t i = 0; i < ELEMENTSOF(image_directories) && r == 0; i++)
                r = image_make_directory(root_fd, image_directories[i].path,
                                         image_directories[i].mode, 0, reterr);
        if (r == 0)
                r = image_make_directory(root_fd, home, 0755, user->owner, reterr);
        if (r == 0)
                r = image_make_directory(root_fd, "workspace", 0755, user->owner, reterr);
        for (size_t i = 0; i < image->n_directories && r == 0; i++)
                r = image_make_directory(root_fd, image->directories[i], 0755, 0, reterr);
        return r;
}

/* What a bind mount of a file or of a directory needs to stand on. */
static int image_make_mount_point(int root_fd, const char *path, Error **reterr) {
        const char *last = strrchr(path, '/') + 1;
        _cleanup_free_ char *parent = strndup(path, (size_t)(last - path));
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (!parent)
                return error_set(reterr, ENOMEM, "cannot create '%s' in the image", path);
        if (stat(path, &st) < 0)
                return error_hint(reterr,
                                  error_set(reterr, errno, "cannot show '%s' of the host", path),
                                  "create it, or drop it from 'bind' of the image's definition");
        if (S_ISDIR(st.st_mode))
                return image_make_directory(root_fd, path, 0755, 0, reterr);
        fd = path_make_dirs_in_root(root_fd, parent, 0755, IMAGE_OWNER, IMAGE_OWNER, reterr);
        return fd < 0 ? fd : file_create_at(fd, last, 0644, "", 0, reterr);
}

static int image_make_link(int root_fd, const char *path, const char *target, Error **reterr) {
        const char *last = strrchr(path, '/') + 1;
        _cleanup_free_ char *parent = strndup(path, (size_t)(last - path));
        _cleanup_close_ int fd = -EBADF;

        if (!parent)
                return error_set(reterr, ENOMEM, "cannot create '%s' in the image", path);
        fd = path_make_dirs_in_root(root_fd, parent, 0755, IMAGE_OWNER, IMAGE_OWNER, reterr);
        if (fd < 0)
                return fd;
        if (symlinkat(target, fd, last) < 0)
                return error_set(reterr, errno, "cannot create link '%s' in the image", path);
        return 0;
}

/* Replaces what may have been copied there. */
static int image_write(int root_fd, const char *name, const char *text, Error **reterr) {
        _cleanup_close_ int etc =
                path_make_dirs_in_root(root_fd, "etc", 0755, IMAGE_OWNER, IMAGE_OWNER, reterr);

        if (etc < 0)
                return etc;
        if (unlinkat(etc, name, 0) < 0 && errno != ENOENT)
                return error_set(reterr, errno, "cannot replace 'etc/%s' in the image", name);
        return file_create_at(etc, name, 0644, text, strlen(text), reterr);
}

static int image_write_users(int root_fd, const ImageUser *user, Error **reterr) {
        _cleanup_free_ char *passwd = NULL, *group = NULL;
        int r;

        if (asprintf(&passwd,
                     "root:x:0:0:root:/root:/bin/sh\n"
                     "%s:x:%" PRIu32 ":%" PRIu32 ":%s:/home/%s:/bin/sh\n"
                     "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
                     user->name, user->uid, user->uid, user->name, user->name) < 0) {
                passwd = NULL;
                return error_set(reterr, ENOMEM, "cannot write the image's users");
        }
        if (asprintf(&group, "root:x:0:\ntty:x:5:\n%s:x:%" PRIu32 ":\nnogroup:x:65534:\n",
                     user->name, user->uid) < 0) {
                group = NULL;
                return error_set(reterr, ENOMEM, "cannot write the image's groups");
        }
        r = image_write(root_fd, "passwd", passwd, reterr);
        return r < 0 ? r : image_write(root_fd, "group", group, reterr);
}

static int image_write_files(int root_fd, const ImageUser *user, Error **reterr) {
        static const char *const files[][2] = {
                {"hosts", "127.0.0.1 localhost carrel\n::1 localhost ip6-localhost ip6-loopback\n"},
                {"hostname", "carrel\n"},
                {"nsswitch.conf",
                 "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
                 "protocols: files\nservices: files\n"},
        };
        int r = image_write_users(root_fd, user, reterr);

        for (size_t i = 0; i < ELEMENTSOF(files) && r == 0; i++)
                r = image_write(root_fd, files[i][0], files[i][1], reterr);
        return r;
}

static int image_fill(int root_fd, const Image *image, const ImageUser *user, Error **reterr) {
        ImageBudget budget = {0};
        int r = image_make_directories(root_fd, image, user, reterr);

        for (size_t i = 0; i < image->n_copy && r == 0; i++)
                r = image_copy(root_fd, image->copy[i], &budget, reterr);
        for (size_t i = 0; i < image->n_bind && r == 0; i++)
                r = image_make_mount_point(root_fd, image->bind[i], reterr);
        for (size_t i = 0; i < image->n_links && r == 0; i++)
                r = image_make_link(root_fd, image->links[i]->path, image->links[i]->target,
                                    reterr);
        return r < 0 ? r : image_write_files(root_fd, user, reterr);
}

static int image_make(int images_fd,
                      const Image *image,
                      const char *name,
                      const ImageUser *user,
                      Error **reterr) {
        _cleanup_close_ int root_fd = -EBADF;
        int r = fd_remove_tree(images_fd, IMAGE_NEW, reterr);

        if (r < 0)
                return r;
        if (mkdirat(images_fd, IMAGE_NEW, 0755) < 0)
                return error_set(reterr, errno, "cannot create the image's directory");
        root_fd = openat(images_fd, IMAGE_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (root_fd < 0 || fchmod(root_fd, 0755) < 0)
                return error_set(reterr, errno, "cannot open the image's directory");
        r = image_fill(root_fd, image, user, reterr);
        if (r < 0) {
                (void)fd_remove_tree(images_fd, IMAGE_NEW, NULL);
                return r;
        }
        if (syncfs(root_fd) < 0 || renameat(images_fd, IMAGE_NEW, images_fd, name) < 0)
                return error_set(reterr, errno, "cannot put the image in place as '%s'", name);
        return 0;
}

/* The directory under @name; made by whoever comes first, while the others wait for the lock. */
static int image_open_or_make(int images_fd,
                              const Image *image,
                              const char *name,
                              const ImageUser *user,
                              Error **reterr) {
        _cleanup_close_ int lock_fd = -EBADF;
        int fd = openat(images_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;

        if (fd >= 0)
                return fd;
        lock_fd = openat(images_fd, ".lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock_fd < 0 || flock(lock_fd, LOCK_EX) < 0)
                return error_set(reterr, errno, "cannot lock the state directory's images");
        if (faccessat(images_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
                r = image_make(images_fd, image, name, user, reterr);
                if (r < 0)
                        return r;
        }
        fd = openat(images_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? error_set(reterr, errno, "cannot open image directory '%s'", name) : fd;
}

static int image_open_root(const Image *image, Error **reterr) {
        int fd = open(image->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_hint(
                        reterr, error_set(reterr, errno, "cannot open the root '%s'", image->root),
                        "create it, or change 'root' of the image's definition");
        return fd;
}

static int
image_materialize_parts(int state_fd, const Image *image, const ImageUser *user, Error **reterr) {
        _cleanup_close_ int images_fd = -EBADF;
        _cleanup_free_ char *name = NULL;
        int r = image_directory_name(image, user, &name, reterr);

        if (r < 0)
                return r;
        /* 0711: ids of workspaces pass through to their own root, and list nothing. */
        if (mkdirat(state_fd, "images", 0711) < 0 && errno != EEXIST)
                return error_set(reterr, errno, "cannot create 'images' in the state directory");
        images_fd = openat(state_fd, "images", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (images_fd < 0)
                return error_set(reterr, errno, "cannot open 'images' in the state directory");
        return image_open_or_make(images_fd, image, name, user, reterr);
}

int image_materialize(
        int state_fd, const Image *image, const ImageUser *user, int *ret_fd, Error **reterr) {
        int r = image_check(image, reterr);

        if (r == 0)
                r = *image->root ? image_open_root(image, reterr)
                                 : image_materialize_parts(state_fd, image, user, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "image '%s'", image->name);
        *ret_fd = r;
        return 0;
}
