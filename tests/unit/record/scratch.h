/* A directory of a test's own, removed with all it holds. */
#pragma once

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"

typedef struct Scratch {
        char path[64];
        int fd;
} Scratch;

static inline int scratch_setup(void **state) {
        Scratch *s = calloc(1, sizeof *s);

        strcpy(s->path, "/tmp/carrel-record-XXXXXX");
        if (!mkdtemp(s->path))
                return -1;
        s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        *state = s;
        return s->fd < 0 ? -1 : 0;
}

static inline int scratch_teardown(void **state) {
        Scratch *s = *state;

        fd_close(s->fd);
        fd_remove_tree(AT_FDCWD, s->path, NULL);
        free(s);
        return 0;
}
