#include "workspace/layers.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/mount.h"
#include "workspace/volume.h"

/* What of a run's layers goes when it has ended. */
static const char *const layers_gone[] = {"root", "source/work"};

static int
layers_make_one(int layers_fd, const char *name, uid_t uid, mode_t mode, Error **reterr) {
        _cleanup_close_ int dir = -EBADF;

        if (mkdirat(layers_fd, name, 0700) < 0)
                return error_set(reterr, errno, "cannot create the layer '%s'", name);
        dir = openat(layers_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* The upper directory's owner and permissions are those of the overlay's root. */
        if (dir < 0 || mkdirat(dir, "work", 0700) < 0 || mkdirat(dir, "upper", 0700) < 0 ||
            fchownat(dir, "upper", uid, uid, 0) < 0 || fchmodat(dir, "upper", mode, 0) < 0)
                return error_set(reterr, errno, "cannot create the layer '%s'", name);
        return 0;
}

static int layers_make(int layers_fd, const LayersSpec *spec, Error **reterr) {
        int r = layers_make_one(layers_fd, "root", spec->root_uid, 0755, reterr);

        if (r < 0 || !spec->source)
                return r;
        return layers_make_one(layers_fd, "source", spec->source_uid, spec->source_mode, reterr);
}

static int layers_remove(int layers_fd, Error **reterr) {
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(layers_gone); i++) {
                int k = fd_remove_tree(layers_fd, layers_gone[i], r < 0 ? NULL : reterr);

                r = r < 0 ? r : k;
        }
        return r;
}

/* ---- in a directory ----------------------------------------------------------------------------
 */

static int layers_open_directory(int run_fd, bool writable, Error **reterr) {
        int fd = openat(run_fd, LAYERS_DIRECTORY, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return errno == ENOENT ? -ENOENT
                                       : error_set(reterr, errno, "cannot open the run's layers");
        return fd;
}

static int layers_acquire_directory(const LayersSpec *spec, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (mkdirat(spec->run_fd, LAYERS_DIRECTORY, 0700) < 0)
                return error_set(reterr, errno, "cannot create '%s'", LAYERS_DIRECTORY);
        fd = layers_open_directory(spec->run_fd, true, reterr);
        if (fd < 0)
                return fd;
        r = layers_make(fd, spec, reterr);
        if (r < 0)
                return r;
        return mount_clone_tree(fd, -EBADF, (MountFlags){.writable = true, .executable = true},
                                LAYERS_DIRECTORY, reterr);
}

static int layers_release_directory(int run_fd, Error **reterr) {
        _cleanup_close_ int fd = layers_open_directory(run_fd, true, reterr);

        return fd == -ENOENT ? 0 : fd < 0 ? fd : layers_remove(fd, reterr);
}

/* ---- in a volume -------------------------------------------------------------------------------
 */

static int layers_acquire_volume(const LayersSpec *spec, Error **reterr) {
        _cleanup_close_ int fd =
                volume_create(spec->state_fd, spec->run_fd, spec->bytes, spec->files, reterr);
        int r = fd < 0 ? fd : layers_make(fd, spec, reterr);

        return r < 0 ? r : TAKE_FD(fd);
}

/* Nothing was changed: an empty directory says so as well as a file system does. */
static int layers_keep_nothing(int run_fd, int upper_fd, Error **reterr) {
        _cleanup_close_ int dir = -EBADF;
        struct stat st;

        if (fstat(upper_fd, &st) < 0)
                return error_set(reterr, errno, "cannot look at the run's changes");
        dir = path_make_dirs_in_root(run_fd, LAYERS_DIRECTORY "/source", 0700, 0, 0, reterr);
        if (dir < 0)
                return dir;
        if ((mkdirat(dir, "upper", 0700) < 0 && errno != EEXIST) ||
            fchownat(dir, "upper", st.st_uid, st.st_gid, 0) < 0 ||
            fchmodat(dir, "upper", st.st_mode & 07777, 0) < 0)
                return error_set(reterr, errno, "cannot keep the run's changes");
        return 0;
}

/* Who was at it as well has done the same. */
static int layers_keep_volume(int run_fd, Error **reterr) {
        if (renameat(run_fd, VOLUME_NAME, run_fd, VOLUME_KEPT) < 0 && errno != ENOENT)
                return error_set(reterr, errno, "cannot keep the run's volume");
        return 0;
}

/* A file system for changes, or none: then the volume itself goes. */
static int layers_keep_changes(int run_fd, int volume_fd, Error **reterr) {
        _cleanup_close_ int upper =
                openat(volume_fd, "source/upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int r = 0;

        if (upper >= 0 && !fd_directory_is_empty(upper)) {
                volume_trim(volume_fd);
                return layers_keep_volume(run_fd, reterr);
        }
        if (upper >= 0)
                r = layers_keep_nothing(run_fd, upper, reterr);
        if (r == 0 && unlinkat(run_fd, VOLUME_NAME, 0) < 0 && errno != ENOENT)
                return error_set(reterr, errno, "cannot remove the run's volume");
        return r;
}

static int layers_release_volume(int run_fd, Error **reterr) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (faccessat(run_fd, VOLUME_NAME, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0
                                       : error_set(reterr, errno, "cannot open the run's volume");
        fd = volume_open(run_fd, true, &error);
        if (fd == -EUCLEAN) /* kept as it is, for a person */
                return layers_keep_volume(run_fd, reterr);
        if (fd < 0) {
                error_move(reterr, &error);
                return fd == -ENOENT ? 0 : fd;
        }
        r = layers_remove(fd, reterr);
        return r < 0 ? r : layers_keep_changes(run_fd, fd, reterr);
}

/* ---- the table ---------------------------------------------------------------------------------
 */

static const struct {
        bool limited;
        int (*acquire)(const LayersSpec *spec, Error **reterr); /* a detached mount */
        int (*open)(int run_fd, bool writable, Error **reterr); /* -ENOENT: kept elsewhere */
        int (*release)(int run_fd, Error **reterr);
} layers_places[] = {
        {true, layers_acquire_volume, volume_open, layers_release_volume},
        {false, layers_acquire_directory, layers_open_directory, layers_release_directory},
};

int layers_acquire(const LayersSpec *spec,
                   Layers *ret_layers,
                   Error **ret_degraded,
                   Error **reterr) {
        _cleanup_error_ Error *why = NULL;
        int fd = -EBADF;

        for (size_t i = 0; i < ELEMENTSOF(layers_places); i++) {
                bool last = i == ELEMENTSOF(layers_places) - 1;
                int r;

                if (layers_places[i].limited && spec->bytes == 0)
                        continue;
                fd = layers_places[i].acquire(spec, last ? reterr : &why);
                if (fd >= 0) {
                        *ret_layers = (Layers){.fd = fd, .limited = layers_places[i].limited};
                        break;
                }
                r = layers_places[i].release(spec->run_fd, NULL);
                if (!last && r < 0) {
                        error_move(reterr, &why);
                        return fd;
                }
        }
        if (fd >= 0 && why) {
                (void)error_wrap(&why, -why->code,
                                 "the disk limit is only measured, and overrun for a moment");
                error_move(ret_degraded, &why);
        }
        return fd < 0 ? fd : 0;
}

int layers_open(int run_fd, Layers *ret_layers, Error **reterr) {
        int fd = -ENOENT;

        for (size_t i = 0; fd == -ENOENT && i < ELEMENTSOF(layers_places); i++) {
                fd = layers_places[i].open(run_fd, false, reterr);
                *ret_layers = (Layers){.fd = fd, .limited = layers_places[i].limited};
        }
        return fd == -ENOENT ? error_set(reterr, ENOENT, "cannot open the run's layers")
               : fd < 0      ? fd
                             : 0;
}

int layers_release(int run_fd, Error **reterr) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(layers_places); i++)
                r = layers_places[i].release(run_fd, reterr);
        return r;
}
