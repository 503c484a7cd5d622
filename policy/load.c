/*
 * Policies from files and messages, with all that they extend merged in
 *
 * A chain is followed from the policy asked for up to the profile 'default', which is the root of
 * all, and merged on the way back. Each file is checked by itself first: there an error still has a
 * line and a column.
 *
 * Trust:   files named by an operator or by whoever runs the CLI. A policy that came as a message
 * may extend profiles only: a submitter must not make the supervisor open files. Limits:  16
 * policies in a chain; a cycle is found by the files' identity, not by their names.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "policy/concerns.h"
#include "policy/policy.h"
#include "proto/text/suggest.h"
#include "proto/text/text.h"

#define POLICY_DEPTH_MAX    16u
#define POLICY_PROFILES_MAX 256u
#define POLICY_ROOT         "default"

typedef struct PolicyLink {
        char *name;
        dev_t device;
        ino_t inode;
} PolicyLink;

typedef struct PolicyLoader {
        const char *const *dirs;
        PolicyLink chain[POLICY_DEPTH_MAX];
        size_t n;
} PolicyLoader;

static void policy_loader_done(PolicyLoader *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->chain[i].name);
}

static bool policy_is_profile_name(const char *name) {
        for (const char *p = name; *p; p++)
                if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-')
                        return false;
        return *name && strlen(name) <= 64;
}

static bool policy_is_path(const char *name) {
        static const char *const endings[] = {".yaml", ".yml", ".json"};
        size_t size = strlen(name);

        for (size_t i = 0; i < ELEMENTSOF(endings); i++) {
                size_t tail = strlen(endings[i]);

                if (size > tail && strcmp(name + size - tail, endings[i]) == 0)
                        return true;
        }
        return strchr(name, '/');
}

/* "a -> b -> a", for people. */
static char *policy_chain_text(const PolicyLoader *l, size_t from, const char *last) {
        _cleanup_free_ char *text = NULL;

        for (size_t i = from; i <= l->n; i++) {
                char *more = NULL;

                if (asprintf(&more, "%s%s%s", text ?: "", text ? " -> " : "",
                             i < l->n ? l->chain[i].name : last) < 0)
                        return NULL;
                free(text);
                text = more;
        }
        return TAKE_PTR(text);
}

static int
policy_loader_push(PolicyLoader *l, const char *name, const struct stat *st, Error **reterr) {
        for (size_t i = 0; i < l->n; i++)
                if (st && l->chain[i].inode == st->st_ino && l->chain[i].device == st->st_dev) {
                        _cleanup_free_ char *cycle = policy_chain_text(l, i, name);

                        return error_refuse(reterr, ELOOP, "drop one of the 'extends'",
                                            "policies extend each other in a circle: %s",
                                            cycle ?: name);
                }
        if (l->n == POLICY_DEPTH_MAX)
                return error_refuse(reterr, ELOOP, "merge some of them by hand",
                                    "policy '%s' extends more than %u others", l->chain[0].name,
                                    POLICY_DEPTH_MAX - 1);
        l->chain[l->n] = (PolicyLink){
                .name = strdup(name),
                .device = st ? st->st_dev : 0,
                .inode = st ? st->st_ino : 0,
        };
        return l->chain[l->n++].name ? 0
                                     : error_set(reterr, ENOMEM, "cannot load policy '%s'", name);
}

/* The stem of NAME.yaml, if it is one; NULL when not. */
static char *policy_profile_of(const char *file) {
        const char *dot = strrchr(file, '.');

        return dot && dot > file && strcmp(dot, ".yaml") == 0 ? strndup(file, (size_t)(dot - file))
                                                              : NULL;
}

static size_t policy_list_profiles(const char *const *dirs, char **names, size_t room) {
        size_t n = 0;

        for (; dirs && *dirs; dirs++) {
                DIR *dir = opendir(*dirs);
                struct dirent *de;

                while (dir && n < room && (de = readdir(dir)))
                        if ((names[n] = policy_profile_of(de->d_name)))
                                n++;
                if (dir)
                        closedir(dir);
        }
        return n;
}

static int policy_compare_names(const void *a, const void *b) {
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* "a, b, c" of sorted names, each once. */
static char *policy_join_names(char **names, size_t n) {
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
                        fprintf(f, "%s%s", i ? ", " : "", names[i]);
        fclose(f);
        return text;
}

static int policy_refuse_unknown(const PolicyLoader *l, const char *name, Error **reterr) {
        char *names[POLICY_PROFILES_MAX] = {0};
        size_t n = policy_list_profiles(l->dirs, names, ELEMENTSOF(names));
        _cleanup_free_ char *all = NULL;
        const char *near;

        qsort(names, n, sizeof names[0], policy_compare_names);
        all = policy_join_names(names, n);
        near = text_suggest(name, (const char *const *)names, n);
        error_refuse(reterr, ENOENT, NULL, "there is no policy profile '%s'", name);
        if (near)
                error_hint(reterr, -ENOENT, "did you mean '%s'? Profiles: %s", near, all ?: "");
        else
                error_hint(reterr, -ENOENT, "profiles: %s; a file needs a '/' or ends in .yaml",
                           n && all ? all : "none");
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        return -ENOENT;
}

/* The file of a profile, in the first directory that has it. */
static int
policy_find_profile(const PolicyLoader *l, const char *name, char **ret_path, Error **reterr) {
        for (const char *const *dir = l->dirs; dir && *dir; dir++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, "%s/%s.yaml", *dir, name) < 0) {
                        path = NULL;
                        return error_set(reterr, ENOMEM, "cannot load policy '%s'", name);
                }
                if (access(path, F_OK) == 0) {
                        *ret_path = TAKE_PTR(path);
                        return 0;
                }
        }
        return policy_refuse_unknown(l, name, reterr);
}

static int policy_find(const PolicyLoader *l,
                       const char *base_dir,
                       const char *name,
                       char **ret_path,
                       Error **reterr) {
        char *path = NULL;
        int n;

        if (policy_is_profile_name(name))
                return policy_find_profile(l, name, ret_path, reterr);
        if (!policy_is_path(name))
                return error_refuse(reterr, EINVAL,
                                    "a profile's name has lower case, digits and '-'; a file needs "
                                    "a '/' or ends in .yaml",
                                    "'%s' is neither a policy profile nor a file", name);
        if (!base_dir)
                return error_refuse(reterr, EPERM, "submit the policy's content, or name a profile",
                                    "policy file '%s' cannot be named here, only profiles", name);
        n = *name == '/' || strcmp(base_dir, ".") == 0 ? asprintf(&path, "%s", name)
                                                       : asprintf(&path, "%s/%s", base_dir, name);
        if (n < 0)
                return error_set(reterr, ENOMEM, "cannot load policy '%s'", name);
        *ret_path = path;
        return 0;
}

/* A policy without a name has its file's. */
static int policy_default_name(Policy *policy, const char *path) {
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        _cleanup_free_ char *stem = strndup(base, strcspn(base, "."));

        if (*policy->name)
                return 0;
        return stem ? message_set_string(&policy->name, stem) : -ENOMEM;
}

static int
policy_read(const char *path, Policy **ret_policy, TextPlaces **ret_places, Error **reterr) {
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        _cleanup_error_ Error *e = NULL;
        _cleanup_message_ Policy *policy = NULL;
        void *m = NULL;
        int r;

        r = text_parse_file(AT_FDCWD, path, &carrel__v1__policy__descriptor, &m, &places, reterr);
        if (r < 0)
                return r;
        policy = m;
        r = policy_check_fields(policy, &e);
        if (r < 0) {
                if (e)
                        text_locate(places, e);
                error_move(reterr, &e);
                return r;
        }
        if (policy_default_name(policy, path) < 0)
                return error_set(reterr, ENOMEM, "cannot load policy '%s'", path);
        *ret_policy = TAKE_PTR(policy);
        *ret_places = TAKE_PTR(places);
        return 0;
}

static int policy_load_link(PolicyLoader *l,
                            const char *base_dir,
                            const char *name,
                            Policy **ret_policy,
                            Error **reterr);

/* What @policy extends, as a whole, with @policy laid over it. */
static int policy_extend(PolicyLoader *l,
                         const char *base_dir,
                         const Policy *policy,
                         Policy **ret_policy,
                         Error **reterr) {
        _cleanup_message_ Policy *whole = NULL;
        const char *parent = *policy->extends ? policy->extends : POLICY_ROOT;
        int r = policy_load_link(l, base_dir, parent, &whole, reterr);

        if (r < 0)
                return error_field(reterr, r, "extends");
        /* A description tells of the parent alone. */
        if (message_set_string(&whole->description, "") < 0)
                return error_set(reterr, ENOMEM, "cannot load policy '%s'", policy->name);
        r = policy_merge(whole, policy, reterr);
        if (r == 0 && message_set_string(&whole->extends, "") < 0)
                r = error_set(reterr, ENOMEM, "cannot load policy '%s'", policy->name);
        if (r < 0)
                return r;
        *ret_policy = TAKE_PTR(whole);
        return 0;
}

static char *policy_directory_of(const char *path) {
        const char *slash = strrchr(path, '/');

        return slash ? strndup(path, MAX_OF((size_t)(slash - path), (size_t)1)) : strdup(".");
}

static int policy_load_link(PolicyLoader *l,
                            const char *base_dir,
                            const char *name,
                            Policy **ret_policy,
                            Error **reterr) {
        _cleanup_(text_places_freep) TextPlaces *places = NULL;
        _cleanup_free_ char *path = NULL, *dir = NULL;
        _cleanup_message_ Policy *policy = NULL;
        _cleanup_error_ Error *e = NULL;
        struct stat st;
        int r;

        r = policy_find(l, base_dir, name, &path, reterr);
        if (r < 0)
                return r;
        if (stat(path, &st) < 0)
                return error_hint(reterr, error_set(reterr, errno, "cannot read policy '%s'", path),
                                  "create it, or name a shipped profile; a relative file stands "
                                  "beside the one that "
                                  "extends it");
        r = policy_loader_push(l, name, &st, reterr);
        if (r == 0)
                r = policy_read(path, &policy, &places, reterr);
        if (r < 0)
                return r;
        if (strcmp(name, POLICY_ROOT) == 0 && !*policy->extends) {
                *ret_policy = TAKE_PTR(policy);
                return 0;
        }
        dir = policy_directory_of(path);
        if (!dir)
                return error_set(reterr, ENOMEM, "cannot load policy '%s'", name);
        r = policy_extend(l, dir, policy, ret_policy, &e);
        /* A parent's error has its own place already, when it is about the parent's content. */
        if (r < 0 && e && e->field && strcmp(e->field, "extends") == 0 && *policy->extends) {
                text_locate(places, e);
                free(e->field);
                e->field = NULL;
        }
        error_move(reterr, &e);
        return r;
}

int policy_load(const char *const *dirs,
                const char *base_dir,
                const char *name,
                Policy **ret_policy,
                Error **reterr) {
        _cleanup_(policy_loader_done) PolicyLoader l = {.dirs = dirs};
        _cleanup_message_ Policy *policy = NULL;
        int r = policy_load_link(&l, base_dir, name, &policy, reterr);

        if (r == 0)
                r = policy_check(policy, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "policy '%s'", name);
        *ret_policy = TAKE_PTR(policy);
        return 0;
}

int policy_resolve(const char *const *dirs,
                   const Policy *policy,
                   Policy **ret_policy,
                   Error **reterr) {
        _cleanup_(policy_loader_done) PolicyLoader l = {.dirs = dirs};
        const char *name = *policy->name ? policy->name : "(submitted)";
        _cleanup_message_ Policy *whole = NULL;
        int r;

        r = policy_check_fields(policy, reterr);
        if (r == 0)
                r = policy_loader_push(&l, name, NULL, reterr);
        if (r == 0)
                r = policy_extend(&l, NULL, policy, &whole, reterr);
        if (r == 0)
                r = policy_check(whole, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "policy '%s'", name);
        *ret_policy = TAKE_PTR(whole);
        return 0;
}
