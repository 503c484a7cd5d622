/*
 * The state directory
 *
 *      runs/<id>/        one run's record              artifacts/   bytes by digest
 *      ids/<slot>        who has which host ids        images/      materialized images
 *      index.sqlite      for listing                   empty/       the shims' root
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "supervisor/supervisor.h"
#include "workspace/resources.h"

static int state_make_parents(const char *path, Error **reterr) {
        _cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
        _cleanup_free_ char *parent = strdup(path);
        char *slash = parent ? strrchr(parent, '/') : NULL;

        if (!slash || root < 0)
                return 0; /* what is amiss is said where it is made */
        *slash = 0;
        fd = path_make_dirs_in_root(root, parent, 0755, 0, 0, reterr);
        return fd < 0 ? fd : 0;
}

static int state_make(const char *path, Error **reterr) {
        int r = 0;

        if (mkdir(path, 0700) == 0 || errno == EEXIST)
                return 0;
        if (errno == ENOENT)
                r = state_make_parents(path, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot create the state directory '%s'", path);
        return mkdir(path, 0700) < 0 && errno != EEXIST
                       ? error_set(reterr, errno, "cannot create the state directory '%s'", path)
                       : 0;
}

static int state_open_dir(int state_fd, const char *name, mode_t mode, int flags, Error **reterr) {
        int fd;

        if (mkdirat(state_fd, name, mode) < 0 && errno != EEXIST)
                return error_set(reterr, errno, "cannot create '%s' in the state directory", name);
        fd = openat(state_fd, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? error_set(reterr, errno, "cannot open '%s' in the state directory", name)
                      : fd;
}

int state_open(Supervisor *sv, Error **reterr) {
        static const char *const others[] = {RESOURCES_IDS_DIR, "images"};
        struct stat st;
        int r = state_make(sv->paths.state, reterr);

        if (r < 0)
                return r;
        sv->state_fd = open(sv->paths.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (sv->state_fd < 0 || fstat(sv->state_fd, &st) < 0)
                return error_hint(reterr,
                                  error_set(reterr, errno, "cannot open the state directory '%s'",
                                            sv->paths.state),
                                  "choose another with --state-dir or CARREL_STATE_DIR");
        if (st.st_uid != 0 || (st.st_mode & 022))
                return error_refuse(reterr, EPERM,
                                    "chown it and chmod go-w, or choose another with --state-dir",
                                    "the state directory '%s' can be written by others than %s",
                                    sv->paths.state,
                                    sv->layout == USERNS_LAYOUT_HOST ? "root" : "its user");
        sv->runs_fd = state_open_dir(sv->state_fd, "runs", 0700, O_RDONLY, reterr);
        if (sv->runs_fd < 0)
                return sv->runs_fd;
        sv->artifacts_fd = state_open_dir(sv->state_fd, "artifacts", 0700, O_RDONLY, reterr);
        if (sv->artifacts_fd < 0)
                return sv->artifacts_fd;
        sv->empty_fd = state_open_dir(sv->state_fd, "empty", 0555, O_PATH, reterr);
        if (sv->empty_fd < 0)
                return sv->empty_fd;
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                _cleanup_close_ int fd =
                        state_open_dir(sv->state_fd, others[i], 0700, O_PATH, reterr);

                if (fd < 0)
                        return fd;
        }
        if (sv->paths.id_pool)
                r = resources_set_pool(sv->state_fd, sv->paths.id_pool, reterr);
        return r < 0 ? r : index_open(sv->state_fd, &sv->index, reterr);
}

int state_open_run(const Supervisor *sv, const char *id, Error **reterr) {
        int fd = openat(sv->runs_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? error_set(reterr, errno, "cannot open the record of run '%s'", id) : fd;
}

int state_lock_run(int run_fd, Error **reterr) {
        /* A description of its own: run_fd's is shared with the zygote while a shim is made. */
        _cleanup_close_ int fd = openat(run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return error_set(reterr, errno, "cannot open the run's directory");
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EWOULDBLOCK
                                            : error_set(reterr, errno, "cannot lock the run");
        return TAKE_FD(fd);
}
