/* Definitions of images: found by name, checked, digested. */
#include "images/image.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "images/definition.h"
#include "proto/text/suggest.h"
#include "proto/text/text.h"

#define IMAGE_NAME_MAX  64u
#define IMAGE_NAMES_MAX 256u
#define IMAGE_ITEMS_MAX 1024u

static bool image_is_name(const char *name) {
        if (!*name || *name == '.' || strlen(name) > IMAGE_NAME_MAX)
                return false;
        for (; *name; name++)
                if (!islower((unsigned char)*name) && !isdigit((unsigned char)*name) &&
                    !strchr("._-", *name))
                        return false;
        return true;
}

static bool image_part_is_clean(const char *part, size_t size) {
        return size > 0 && size <= NAME_MAX && !(size == 1 && part[0] == '.') &&
               !(size == 2 && part[0] == '.' && part[1] == '.');
}

/* Absolute, not "/" itself, no ".", ".." or empty part. */
static bool image_is_path(const char *path) {
        if (*path != '/' || strlen(path) >= PATH_MAX)
                return false;
        while (*path == '/') {
                size_t size = strcspn(path + 1, "/");

                if (!image_part_is_clean(path + 1, size))
                        return false;
                path += size + 1;
        }
        return true;
}

static int image_refuse_path(const char *path, const char *field, size_t i, Error **reterr) {
        error_refuse(reterr, EINVAL, "write it from '/', without '.', '..' or a '/' at the end",
                     "'%s' is not an absolute path", path);
        return error_field(reterr, -EINVAL, "%s[%zu]", field, i);
}

static int image_check_links(const Image *image, Error **reterr) {
        for (size_t i = 0; i < image->n_links; i++) {
                if (!image_is_path(image->links[i]->path))
                        return image_refuse_path(image->links[i]->path, "links", i, reterr);
                if (*image->links[i]->target)
                        continue;
                error_refuse(reterr, EINVAL, "add 'target: ...'", "link '%s' leads nowhere",
                             image->links[i]->path);
                return error_field(reterr, -EINVAL, "links[%zu].target", i);
        }
        return 0;
}

static int image_check_lists(const Image *image, Error **reterr) {
        const struct {
                const char *field;
                char *const *paths;
                size_t n;
        } lists[] = {
                {"bind", image->bind, image->n_bind},
                {"copy", image->copy, image->n_copy},
                {"directories", image->directories, image->n_directories},
                {"links", NULL, image->n_links},
        };

        for (size_t k = 0; k < ELEMENTSOF(lists); k++) {
                if (lists[k].n > IMAGE_ITEMS_MAX) {
                        error_refuse(reterr, E2BIG, "name a common parent directory",
                                     "'%s' has %zu entries, more than %u", lists[k].field,
                                     lists[k].n, IMAGE_ITEMS_MAX);
                        return error_field(reterr, -E2BIG, "%s", lists[k].field);
                }
                for (size_t i = 0; lists[k].paths && i < lists[k].n; i++)
                        if (!image_is_path(lists[k].paths[i]))
                                return image_refuse_path(lists[k].paths[i], lists[k].field, i,
                                                         reterr);
        }
        return image_check_links(image, reterr);
}

int image_check(const Image *image, Error **reterr) {
        bool parts = image->n_bind || image->n_copy || image->n_links || image->n_directories;

        if (!image_is_name(image->name)) {
                error_refuse(reterr, EINVAL, "use lower case, digits, '.', '_' and '-', at most 64",
                             "'%s' is not an image's name", image->name);
                return error_field(reterr, -EINVAL, "name");
        }
        if (!*image->root == !parts) {
                error_refuse(reterr, EINVAL,
                             "write either 'root', or 'bind', 'copy', 'links' and 'directories'",
                             *image->root ? "image '%s' has a root and parts of one"
                                          : "image '%s' shows nothing of the host",
                             image->name);
                return error_field(reterr, -EINVAL, "root");
        }
        if (*image->root && !image_is_path(image->root)) {
                error_refuse(reterr, EINVAL,
                             "write it from '/', without '.', '..' or a '/' at the end",
                             "image root '%s' is not an absolute path", image->root);
                return error_field(reterr, -EINVAL, "root");
        }
        return image_check_lists(image, reterr);
}

static size_t image_list_names(const char *const *dirs, char **names, size_t room) {
        size_t n = 0;

        for (; *dirs; dirs++) {
                DIR *dir = opendir(*dirs);
                struct dirent *de;

                while (dir && n < room && (de = readdir(dir))) {
                        size_t size = strlen(de->d_name);

                        if (size <= 5 || strcmp(de->d_name + size - 5, ".yaml") != 0)
                                continue;
                        names[n] = strndup(de->d_name, size - 5);
                        if (names[n])
                                n++;
                }
                if (dir)
                        closedir(dir);
        }
        return n;
}

static int image_compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int image_refuse_unknown(const char *const *dirs, const char *name, Error **reterr) {
        char *names[IMAGE_NAMES_MAX] = {0}, *all = NULL;
        size_t n = image_list_names(dirs, names, ELEMENTSOF(names)), size = 0;
        FILE *f = open_memstream(&all, &size);
        const char *near;

        qsort(names, n, sizeof names[0], image_compare_names);
        near = text_suggest(name, (const char *const *)names, n);
        for (size_t i = 0; f && i < n; i++)
                if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
                        fprintf(f, "%s%s", i ? ", " : "", names[i]);
        fclosep(&f);
        error_refuse(reterr, ENOENT, NULL, "there is no image '%s'", name);
        error_hint(reterr, -ENOENT, "%s%s%simages: %s", near ? "did you mean '" : "", near ?: "",
                   near ? "'? " : "", n && all ? all : "none");
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        free(all);
        return -ENOENT;
}

static int image_read(const char *path, const char *name, Image **ret_image, Error **reterr) {
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        _cleanup_message_ Image *image = NULL;
        _cleanup_error_ Error *e = NULL;
        void *m = NULL;
        int r;

        r = text_parse_file(AT_FDCWD, path, &carrel__v1__image__descriptor, &m, &places, reterr);
        if (r < 0)
                return r;
        image = m;
        if (!*image->name && message_set_string(&image->name, name) < 0)
                return error_set(reterr, ENOMEM, "cannot load image '%s'", name);
        r = image_check(image, &e);
        if (r < 0) {
                if (e)
                        text_locate(places, e);
                error_move(reterr, &e);
                return r;
        }
        *ret_image = TAKE_PTR(image);
        return 0;
}

int image_load(const char *const *dirs, const char *name, Image **ret_image, Error **reterr) {
        if (!image_is_name(name))
                return error_refuse(reterr, EINVAL,
                                    "use lower case, digits, '.', '_' and '-', at most 64",
                                    "'%s' is not an image's name", name);
        for (const char *const *dir = dirs; *dir; dir++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s.yaml", *dir, name) < 0) {
                        path = NULL;
                        return error_set(reterr, ENOMEM, "cannot load image '%s'", name);
                }
                if (access(path, F_OK) == 0)
                        return image_read(path, name, ret_image, reterr);
        }
        return image_refuse_unknown(dirs, name, reterr);
}

int image_digest(const Image *image, char **ret_digest, Error **reterr) {
        _cleanup_free_ uint8_t *data = NULL;
        uint8_t digest[DIGEST_SIZE];
        char text[DIGEST_TEXT_SIZE];
        size_t size = 0;

        if (message_pack(&image->base, &data, &size) < 0)
                return error_set(reterr, ENOMEM, "cannot digest image '%s'", image->name);
        digest_bytes(data, size, digest);
        digest_text(digest, text);
        *ret_digest = strdup(text);
        return *ret_digest ? 0 : error_set(reterr, ENOMEM, "cannot digest image '%s'", image->name);
}
