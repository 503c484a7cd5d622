#include "shim/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fd.h"
#include "proto/wire/frame.h"

#define SPOOL_OPEN_FLAGS (O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW)

int spool_create(int run_fd, int *ret_events_fd, Error **reterr) {
        static const char *const files[] = {SPOOL_ARTIFACTS, SPOOL_LOG};
        _cleanup_close_ int events = -EBADF;

        if (mkdirat(run_fd, SPOOL_DIR, 0700) < 0)
                return error_set(reterr, errno, "cannot make the spool");
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                int r = file_create_at(run_fd, files[i], 0600, "", 0, reterr);

                if (r < 0)
                        return r;
        }
        events = openat(run_fd, SPOOL_EVENTS, SPOOL_OPEN_FLAGS | O_CREAT | O_EXCL, 0600);
        if (events < 0 || flock(events, LOCK_EX | LOCK_NB) < 0)
                return error_set(reterr, errno, "cannot make the spool");
        *ret_events_fd = TAKE_FD(events);
        return 0;
}

int spool_open(int run_fd, int events_fd, Spool **ret_spool, Error **reterr) {
        Spool *s = calloc(1, sizeof *s);

        if (!s) {
                fd_close(events_fd);
                return error_set(reterr, ENOMEM, "cannot open the spool");
        }
        s->events_fd = events_fd;
        s->artifacts_fd = openat(run_fd, SPOOL_ARTIFACTS, SPOOL_OPEN_FLAGS);
        s->log_fd = openat(run_fd, SPOOL_LOG, SPOOL_OPEN_FLAGS);
        if (s->artifacts_fd < 0 || s->log_fd < 0) {
                int r = error_set(reterr, errno, "cannot open the spool");

                spool_free(s);
                return r;
        }
        *ret_spool = s;
        return 0;
}

int spool_append(Spool *s, Event *event, Error **reterr) {
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;
        ssize_t n;
        int r;

        event->shim_sequence = s->sequence + 1;
        event->time_unix_us = clock_unix_us();
        event->boottime_us = clock_boottime_us();
        r = frame_encode(&event->base, 0, &data, &size);
        if (r < 0)
                return error_set(reterr, -r, "cannot write an event");
        n = write(s->events_fd, data, size);
        if (n != (ssize_t)size)
                return error_set(reterr, n < 0 ? errno : ENOSPC, "cannot write an event");
        s->sequence++;
        return 0;
}

Spool *spool_free(Spool *s) {
        if (!s)
                return NULL;
        fd_close(s->events_fd);
        fd_close(s->artifacts_fd);
        fd_close(s->log_fd);
        free(s);
        return NULL;
}

int spool_read(SpoolReader *r, Event **ret_event, Error **reterr) {
        uint8_t header[FRAME_HEADER_SIZE];
        _cleanup_free_ uint8_t *data = NULL;
        void *event = NULL;
        ssize_t n = pread(r->fd, header, sizeof header, r->offset);
        size_t size;

        if (n != (ssize_t)sizeof header)
                return n < 0 ? error_set(reterr, errno, "cannot read the spool") : 0;
        size = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 |
               header[3];
        if (size > SPOOL_MAX_EVENT || header[4] || header[5] || header[6] || header[7])
                return error_refuse(reterr, size > SPOOL_MAX_EVENT ? EMSGSIZE : EBADMSG, NULL,
                                    "the shim's spool holds no event at byte %ld", (long)r->offset);
        data = malloc(size ?: 1);
        if (!data)
                return error_set(reterr, ENOMEM, "cannot read the spool");
        n = pread(r->fd, data, size, r->offset + (off_t)sizeof header);
        if (n != (ssize_t)size)
                return n < 0 ? error_set(reterr, errno, "cannot read the spool") : 0;
        if (message_unpack(&carrel__v1__event__descriptor, data, size, &event) < 0)
                return error_refuse(reterr, EBADMSG, NULL,
                                    "the shim's spool holds no event at byte %ld", (long)r->offset);
        r->offset += (off_t)(sizeof header + size);
        *ret_event = event;
        return 1;
}
