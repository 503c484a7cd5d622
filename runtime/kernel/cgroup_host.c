/* Where this host's control group hierarchies are, and which controllers carrel is given there. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "kernel/cgroup_internal.h"

static const struct {
        const char *name;
        CgroupController bit;
} cgroup_controllers[] = {
        {"memory", CGROUP_MEMORY}, {"pids", CGROUP_PIDS},
        {"cpu", CGROUP_CPU},       {"cpuacct", CGROUP_CPUACCT},
        {"io", CGROUP_IO},         {"blkio", CGROUP_IO}, /* its name in v1 */
};

unsigned cgroup_controllers_parse(const char *list, const char *separators) {
        _cleanup_free_ char *copy = strdup(list);
        unsigned bits = 0;
        char *save = NULL;

        for (char *word = copy ? strtok_r(copy, separators, &save) : NULL; word;
             word = strtok_r(NULL, separators, &save))
                for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++)
                        if (strcmp(word, cgroup_controllers[i].name) == 0)
                                bits |= cgroup_controllers[i].bit;
        return bits;
}

/* This process's own group in a v1 hierarchy, from /proc/self/cgroup: "4:memory:/a/b". */
static int cgroup_own_path(const char *table, unsigned bits, char **ret_path) {
        _cleanup_free_ char *copy = strdup(table);
        char *save = NULL;

        for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;

                if (!path)
                        continue;
                *path++ = 0;
                if (cgroup_controllers_parse(list + 1, ",") & bits) {
                        *ret_path = strdup(strcmp(path, "/") == 0 ? "" : path);
                        return *ret_path ? 0 : -ENOMEM;
                }
        }
        *ret_path = strdup("");
        return *ret_path ? 0 : -ENOMEM;
}

/* One line of mountinfo (proc(5)); cgroup2 goes first, whatever the order of mounts. */
static int cgroup_host_add(CgroupHost *h, char *line, const char *own_table) {
        _cleanup_free_ char *own = NULL;
        char mount[4096], type[64], options[512];
        const char *tail = strstr(line, " - ");
        unsigned bits = 0;
        bool v2;
        int r;

        if (!tail || sscanf(line, "%*d %*d %*s %*s %4095s", mount) != 1 ||
            sscanf(tail, " - %63s %*s %511s", type, options) != 2)
                return 0;
        v2 = strcmp(type, "cgroup2") == 0;
        if (!v2) {
                if (strcmp(type, "cgroup") != 0)
                        return 0;
                bits = cgroup_controllers_parse(options, ",");
                if (!bits)
                        return 0;
                r = cgroup_own_path(own_table, bits, &own);
                if (r < 0)
                        return r;
        }
        if (v2 ? h->hierarchies[0].path != NULL : h->n >= CGROUP_MAX_HIERARCHIES)
                return 0; /* mounted twice */
        if (asprintf(&h->hierarchies[v2 ? 0 : h->n].path, "%s%s/" CGROUP_PARENT, mount, own ?: "") <
            0)
                return -ENOMEM;
        if (!v2)
                h->hierarchies[h->n++].controllers = bits;
        return 0;
}

/* One by one: one that fails must not keep the others off. */
void cgroup_enable(const char *dir, unsigned bits) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/cgroup.subtree_control", dir) < 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++) {
                char word[16];

                snprintf(word, sizeof word, "+%s", cgroup_controllers[i].name);
                if (bits & cgroup_controllers[i].bit)
                        (void)file_write_at(AT_FDCWD, path, word, NULL);
        }
}

int cgroup_make_dir(const char *path, Error **reterr) {
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
                return error_set(reterr, errno, "cannot create the control group '%s'", path);
        return 0;
}

/* The controllers that a pure v2 host gives to carrel's children; tried anew each time, never
 * assumed. */
int cgroup_v2_controllers(CgroupHost *h, unsigned missing, Error **reterr) {
        _cleanup_free_ char *root = strdup(h->hierarchies[0].path), *file = NULL, *text = NULL;
        int r;

        if (!root || asprintf(&file, "%s/cgroup.subtree_control", h->hierarchies[0].path) < 0)
                return -ENOMEM;
        *strrchr(root, '/') = 0;
        cgroup_enable(root, missing);
        r = cgroup_make_dir(h->hierarchies[0].path, reterr);
        if (r < 0)
                return r;
        cgroup_enable(h->hierarchies[0].path, missing);
        r = file_read_at(AT_FDCWD, file, 4096, &text, NULL, reterr);
        if (r < 0)
                return r;
        h->hierarchies[0].controllers = cgroup_controllers_parse(text, " \n");
        return 0;
}

static int cgroup_host_find(CgroupHost *h, Error **reterr) {
        _cleanup_free_ char *mounts = NULL, *own = NULL;
        unsigned have = 0;
        char *save = NULL;
        int r;

        r = file_read_at(AT_FDCWD, "/proc/self/mountinfo", 16 * MIB, &mounts, NULL, reterr);
        if (r == 0)
                r = file_read_at(AT_FDCWD, "/proc/self/cgroup", 64 * KIB, &own, NULL, reterr);
        if (r < 0)
                return r;
        h->n = 1;
        for (char *line = strtok_r(mounts, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                r = cgroup_host_add(h, line, own);
                if (r < 0)
                        return error_set(reterr, -r, "cannot read the control groups");
        }
        if (!h->hierarchies[0].path)
                return error_refuse(reterr, ENOTSUP,
                                    "mount it: mount -t cgroup2 none /sys/fs/cgroup",
                                    "cannot limit a workspace: no cgroup2 file system is mounted");
        for (size_t i = 1; i < h->n; i++)
                have |= h->hierarchies[i].controllers;
        h->hybrid = have != 0;
        if ((have & CGROUP_REQUIRED) != CGROUP_REQUIRED) {
                r = cgroup_v2_controllers(h, (CGROUP_REQUIRED | CGROUP_IO) & ~have, reterr);
                if (r < 0)
                        return r;
                have |= h->hierarchies[0].controllers;
        }
        for (size_t i = 0; i < ELEMENTSOF(cgroup_controllers); i++)
                if (CGROUP_REQUIRED & ~have & cgroup_controllers[i].bit)
                        return error_refuse(reterr, ENOTSUP,
                                            "enable it in the root's cgroup.subtree_control, or "
                                            "delegate it to carreld",
                                            "cannot limit a workspace: this host gives carrel no "
                                            "'%s' controller",
                                            cgroup_controllers[i].name);
        return 0;
}

int cgroup_host_open(CgroupHost *ret_host, Error **reterr) {
        CgroupHost h = {0};
        int r = cgroup_host_find(&h, reterr);

        if (r < 0) {
                cgroup_host_done(&h);
                return r;
        }
        *ret_host = h;
        return 0;
}

bool cgroup_host_has(const CgroupHost *h, const char *controller) {
        unsigned bits = cgroup_controllers_parse(controller, ","), have = 0;

        for (size_t i = 0; i < h->n; i++)
                have |= h->hierarchies[i].controllers;
        return (have & bits) == bits;
}

void cgroup_host_done(CgroupHost *h) {
        for (size_t i = 0; i < ELEMENTSOF(h->hierarchies); i++)
                free(TAKE_PTR(h->hierarchies[i].path));
        h->n = 0;
}

void cgroup_parent_release(const CgroupHost *h) {
        for (size_t i = 0; i < h->n; i++)
                (void)rmdir(h->hierarchies[i].path);
}
