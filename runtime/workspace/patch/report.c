#include "report.h"

#include <errno.h>
#include <string.h>

#include "base/fd.h"

int report_note(Report *r, const ChangeItem *item) {
        if (!protect_concerns(&r->protected, item))
                return 0;
        if (r->n < REPORT_MAX_PATHS) {
                char *path = strdup(item->path);

                if (!path)
                        return -ENOMEM;
                r->paths[r->n] = path;
        }
        r->n++;
        return 0;
}

int report_write(const Report *r, int fd, Error **reterr) {
        char count[24];
        int k;

        snprintf(count, sizeof count, "%zu", r->n);
        k = fd_write_all(fd, count, strlen(count) + 1);
        for (size_t i = 0; k == 0 && i < MIN_OF(r->n, REPORT_MAX_PATHS); i++)
                k = fd_write_all(fd, r->paths[i], strlen(r->paths[i]) + 1);
        fd_close(fd);
        return k < 0 ? error_set(reterr, -k, "cannot report which changes are protected") : 0;
}

void report_done(Report *r) {
        for (size_t i = 0; i < MIN_OF(r->n, REPORT_MAX_PATHS); i++)
                free(r->paths[i]);
}
