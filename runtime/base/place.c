#include "base/place.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

char *place_find(const char *in_tree, const char *installed) {
        _cleanup_free_ char *path = NULL;
        char self[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        char *slash;

        if (n < 0)
                return strdup(installed);
        self[n] = 0;
        slash = strrchr(self, '/');
        if (slash)
                *slash = 0;
        if (asprintf(&path, "%s/../../%s", self, in_tree) < 0)
                return NULL;
        return access(path, F_OK) == 0 ? TAKE_PTR(path) : strdup(installed);
}
