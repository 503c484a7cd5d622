/*
 * carrel-patch: a run's changes as a patch for git apply
 *
 *     carrel-patch [--max-bytes N] [--protect PATTERN]... [--approve PATTERN]...
 *
 *     3: the original directory, 4: the run's upper, 5 (optional): an empty directory to live in,
 *     6 (with --protect): a file for the protected changes (report.h); 1: the patch
 *
 * Exit status: 0, also for an empty patch; 1 and an error; 3 where the patch was cut at
 * --max-bytes, between two files.
 *
 * Model:      the list of changes first, with the report of those that are protected, then one file
 * after the other, whole in memory on both sides. Left out:   what git keeps no track of
 * (directories, special files), what it refuses
 * (".git" at any depth), and files larger than 8 MiB. Each is said on standard error. Trust:
 * everything it reads is an agent's. It confines itself before (confine.h), reads no configuration,
 * opens no repository and runs no program.
 */
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "base/fd.h"
#include "confine.h"
#include "entry.h"
#include "report.h"
#include "workspace/changes.h"

#define PATCH_PROGRAM   "carrel-patch"
#define PATCH_LOWER_FD  3
#define PATCH_UPPER_FD  4
#define PATCH_ROOT_FD   5
#define PATCH_REPORT_FD 6

#define PATCH_MAX_BYTES (64 * MIB)
#define PATCH_MAX_FILE  (8 * MIB)
#define PATCH_MAX_NOTES 20

#define PATCH_EXIT_CUT 3

typedef struct PatchItem {
        char *path;
        mode_t lower, upper; /* 0: there is none */
} PatchItem;

typedef struct Patch {
        PatchItem *items;
        size_t n, room;
        uint64_t max_bytes, written;
        size_t in_git, special, large;
        char **protect, **approve; /* of argv; room for all of it */
        size_t n_protect, n_approve;
        Report report;
} Patch;

static void patch_done(Patch *p) {
        while (p->n > 0)
                free(p->items[--p->n].path);
        free(p->items);
        free(p->protect);
        free(p->approve);
        report_done(&p->report);
}

static bool patch_is_special(mode_t mode) {
        return mode && !S_ISREG(mode) && !S_ISLNK(mode) && !S_ISDIR(mode);
}

static int patch_add(Patch *p, const char *path, mode_t lower, mode_t upper) {
        char *copy;

        if (p->n == p->room) {
                size_t room = p->room ? p->room * 2 : 256;
                PatchItem *more = reallocarray(p->items, room, sizeof *more);

                if (!more)
                        return -ENOMEM;
                p->items = more;
                p->room = room;
        }
        copy = strdup(path);
        if (!copy)
                return -ENOMEM;
        p->items[p->n++] = (PatchItem){.path = copy, .lower = lower, .upper = upper};
        return 0;
}

static int patch_collect(const ChangeItem *item, void *data) {
        mode_t lower = item->has_lower ? item->lower.st_mode : 0;
        mode_t upper = item->has_upper ? item->upper.st_mode : 0;
        Patch *p = data;

        if (report_note(&p->report, item) < 0)
                return -ENOMEM;
        if (S_ISDIR(lower) || S_ISDIR(upper))
                return 0;
        /* git apply refuses such a path, and with it the whole patch. */
        if (changes_in_git(item->path)) {
                p->in_git++;
                return 0;
        }
        if (patch_is_special(lower) || patch_is_special(upper)) {
                p->special++;
                return 0;
        }
        return patch_add(p, item->path, lower, upper);
}

static void patch_note_large(Patch *p, const char *path) {
        if (p->large++ >= PATCH_MAX_NOTES)
                return;
        fputs(PATCH_PROGRAM ": ", stderr);
        entry_quote(stderr, "", path, 1);
        fputs(" left out: larger than 8 MiB\n", stderr);
}

static void patch_note_rest(const Patch *p) {
        if (p->large > PATCH_MAX_NOTES)
                fprintf(stderr, PATCH_PROGRAM ": %zu more left out: larger than 8 MiB\n",
                        p->large - PATCH_MAX_NOTES);
        if (p->in_git)
                fprintf(stderr, PATCH_PROGRAM ": %zu paths left out: below '.git'\n", p->in_git);
        if (p->special)
                fprintf(stderr, PATCH_PROGRAM ": %zu paths left out: devices, sockets or FIFOs\n",
                        p->special);
}

static int patch_read_link(int root_fd, const char *path, EntrySide *ret) {
        _cleanup_close_ int fd = path_open_beneath(root_fd, path, O_PATH | O_NOFOLLOW, 0);
        _cleanup_free_ char *target = malloc(PATH_MAX);
        ssize_t n;

        if (fd < 0)
                return fd;
        if (!target)
                return -ENOMEM;
        n = readlinkat(fd, "", target, PATH_MAX);
        if (n < 0)
                return -errno;
        ret->data = TAKE_PTR(target);
        ret->size = (size_t)n;
        return 0;
}

static int patch_read_file(int root_fd, const char *path, EntrySide *ret) {
        _cleanup_close_ int fd =
                path_open_beneath(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW, 0);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ESTALE;
        return fd_read_file(fd, PATCH_MAX_FILE, &ret->data, &ret->size);
}

static int patch_read(int root_fd, const char *path, mode_t mode, EntrySide *ret) {
        if (!mode)
                return 0;
        ret->mode = entry_mode(mode);
        return S_ISLNK(mode) ? patch_read_link(root_fd, path, ret)
                             : patch_read_file(root_fd, path, ret);
}

static void patch_side_done(EntrySide *s) {
        free(s->data);
}

#define _cleanup_side_ _cleanup_(patch_side_done)

/* The text of one item in a fresh buffer; empty where it is left out. */
static int patch_item(Patch *p, const PatchItem *item, char **ret_text, size_t *ret_size) {
        _cleanup_side_ EntrySide old = {}, new = {};
        FILE *to;
        int r;

        r = patch_read(PATCH_LOWER_FD, item->path, item->lower, &old);
        if (r == 0)
                r = patch_read(PATCH_UPPER_FD, item->path, item->upper, &new);
        if (r == -EFBIG) {
                patch_note_large(p, item->path);
                return 0;
        }
        if (r < 0)
                return r;
        to = open_memstream(ret_text, ret_size);
        if (!to)
                return -ENOMEM;
        r = entry_write(to, item->path, &old, &new);
        return fclose(to) == 0 || r < 0 ? r : -ENOMEM;
}

/* Return: 0, 1 where the limit cut it, -errno. */
static int patch_write(Patch *p, Error **reterr) {
        for (size_t i = 0; i < p->n; i++) {
                _cleanup_free_ char *text = NULL;
                size_t size = 0;
                int r = patch_item(p, &p->items[i], &text, &size);

                if (r < 0)
                        return error_set(reterr, -r, "cannot make the patch of '%s'",
                                         p->items[i].path);
                if (p->written + size > p->max_bytes)
                        return 1;
                r = fd_write_all(STDOUT_FILENO, text, size);
                if (r < 0)
                        return error_set(reterr, -r, "cannot write the patch");
                p->written += size;
        }
        return 0;
}

static int patch_start_git(Error **reterr) {
        static const int levels[] = {
                GIT_CONFIG_LEVEL_PROGRAMDATA,
                GIT_CONFIG_LEVEL_SYSTEM,
                GIT_CONFIG_LEVEL_XDG,
                GIT_CONFIG_LEVEL_GLOBAL,
        };

        if (git_libgit2_init() < 0)
                return error_refuse(reterr, EIO, NULL, "cannot start libgit2");
        for (size_t i = 0; i < ELEMENTSOF(levels); i++)
                if (git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "") < 0)
                        return error_refuse(reterr, EIO, NULL,
                                            "cannot keep libgit2 from configuration");
        return 0;
}

static int patch_check_directory(int fd, const char *what, Error **reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_hint(
                        reterr,
                        error_set(reterr, errno, "no %s directory in descriptor %d", what, fd),
                        "carrel starts this program; it is of no use by hand");
        if (!S_ISDIR(st.st_mode))
                return error_set(reterr, ENOTDIR, "no %s directory in descriptor %d", what, fd);
        return 0;
}

static int patch_prepare(const Patch *p, Error **reterr) {
        int root_fd = fcntl(PATCH_ROOT_FD, F_GETFD) < 0 ? -EBADF : PATCH_ROOT_FD;
        int first = p->n_protect > 0 ? PATCH_REPORT_FD + 1 : PATCH_REPORT_FD, r;

        r = patch_check_directory(PATCH_LOWER_FD, "original", reterr);
        if (r == 0)
                r = patch_check_directory(PATCH_UPPER_FD, "upper", reterr);
        if (r == 0 && close_range((unsigned)first, ~0U, 0) < 0)
                r = error_set(reterr, errno, "cannot close the descriptors that are not its own");
        if (r == 0)
                r = patch_start_git(reterr);
        return r < 0 ? r : confine_to_reading(root_fd, reterr);
}

static int patch_run(Patch *p, Error **reterr) {
        int r;

        r = patch_prepare(p, reterr);
        if (r < 0)
                return r;
        r = changes_walk(PATCH_LOWER_FD, PATCH_UPPER_FD, patch_collect, p, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot list the changes");
        if (p->n_protect > 0)
                r = report_write(&p->report, PATCH_REPORT_FD, reterr);
        if (r == 0)
                r = confine_to_bytes(reterr);
        return r < 0 ? r : patch_write(p, reterr);
}

static int patch_option_bytes(Patch *p, char *value, Error **reterr) {
        char *end = NULL;

        errno = 0;
        p->max_bytes = strtoull(value, &end, 10);
        if (errno || end == value || *end || *value == '-')
                return error_refuse(reterr, EINVAL, "write it in digits",
                                    "'%s' is no number of bytes", value);
        return 0;
}

static int patch_option_protect(Patch *p, char *value, Error **reterr) {
        p->protect[p->n_protect++] = value;
        return pattern_check(value + (*value == '!'), reterr);
}

static int patch_option_approve(Patch *p, char *value, Error **reterr) {
        p->approve[p->n_approve++] = value;
        return pattern_check(value, reterr);
}

static const struct {
        const char *name;
        int (*take)(Patch *p, char *value, Error **reterr);
} patch_option_table[] = {
        {"--max-bytes", patch_option_bytes},
        {"--protect", patch_option_protect},
        {"--approve", patch_option_approve},
};

static int patch_option(Patch *p, const char *name, char *value, Error **reterr) {
        for (size_t i = 0; value && i < ELEMENTSOF(patch_option_table); i++)
                if (strcmp(name, patch_option_table[i].name) == 0)
                        return patch_option_table[i].take(p, value, reterr);
        return error_refuse(reterr, EINVAL,
                            "there are '--max-bytes N', '--protect PATTERN', '--approve PATTERN'",
                            "unknown arguments from '%s' on", name);
}

static int patch_options(int argc, char **argv, Patch *p, Error **reterr) {
        int r = 0;

        for (int i = 1; i < argc && r == 0; i += 2)
                r = patch_option(p, argv[i], argv[i + 1], reterr);
        p->report.protected = (PatternSet){p->protect, p->n_protect, p->approve, p->n_approve};
        return r;
}

int main(int argc, char **argv) {
        _cleanup_(patch_done) Patch p = {.max_bytes = PATCH_MAX_BYTES};
        _cleanup_error_ Error *e = NULL;
        int r;

        p.protect = calloc((size_t)argc, sizeof *p.protect);
        p.approve = calloc((size_t)argc, sizeof *p.approve);
        r = p.protect && p.approve ? patch_options(argc, argv, &p, &e)
                                   : error_set(&e, ENOMEM, "cannot read the arguments");
        if (r == 0)
                r = patch_run(&p, &e);
        if (r < 0) {
                error_print(stderr, PATCH_PROGRAM, e);
                return EXIT_FAILURE;
        }
        patch_note_rest(&p);
        if (r == 0)
                return EXIT_SUCCESS;
        fprintf(stderr, PATCH_PROGRAM ": the patch is larger than %" PRIu64 " bytes: cut before ",
                p.max_bytes);
        fputs("the first file that did not fit\n", stderr);
        return PATCH_EXIT_CUT;
}
