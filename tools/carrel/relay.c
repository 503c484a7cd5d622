#include "carrel/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"

struct pollfd relay_poll(const Relay *r) {
        if (!relay_is_open(r))
                return (struct pollfd){.fd = -1};
        if (r->blocked || r->start < r->end)
                return (struct pollfd){.fd = r->to, .events = POLLOUT};
        return (struct pollfd){.fd = r->from, .events = POLLIN};
}

void relay_close(Relay *r) {
        if (r->own_from)
                fd_close(r->from);
        if (r->own_to)
                fd_close(r->to);
        r->from = r->to = -EBADF;
        free(r->buffer);
        r->buffer = NULL;
        r->start = r->end = 0;
}

/* Over: 0 for what ends every stream, else the error. */
static int relay_end(Relay *r, int error) {
        relay_close(r);
        /* EIO: a terminal's other side has gone. */
        return error == 0 || error == EPIPE || error == ECONNRESET || error == EBADF || error == EIO
                       ? 0
                       : -error;
}

static int relay_flush(Relay *r) {
        ssize_t n = write(r->to, r->buffer + r->start, r->end - r->start);

        if (n >= 0) {
                r->start += (size_t)n;
                r->blocked = r->start < r->end;
                return 1;
        }
        if (errno == EAGAIN || errno == EINTR) {
                r->blocked = errno == EAGAIN;
                return 0;
        }
        return relay_end(r, errno);
}

static int relay_copy(Relay *r) {
        ssize_t n;

        if (r->start < r->end)
                return relay_flush(r);
        if (!r->buffer)
                r->buffer = malloc(RELAY_CHUNK);
        if (!r->buffer)
                return relay_end(r, ENOMEM);
        n = read(r->from, r->buffer, RELAY_CHUNK);
        if (n == 0)
                return relay_end(r, 0);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : relay_end(r, errno);
        r->start = 0;
        r->end = (size_t)n;
        return relay_flush(r);
}

/* EAGAIN does not say which side it is about: ask the source. */
static bool relay_source_is_ready(const Relay *r) {
        struct pollfd p = {.fd = r->from, .events = POLLIN};

        return poll(&p, 1, 0) > 0;
}

int relay_move(Relay *r) {
        ssize_t n;

        if (!relay_is_open(r))
                return 0;
        if (r->copying)
                return relay_copy(r);
        n = splice(r->from, NULL, r->to, NULL, RELAY_CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n > 0) {
                r->blocked = false;
                return 1;
        }
        if (n == 0)
                return relay_end(r, 0);
        if (errno == EINTR)
                return 0;
        if (errno == EAGAIN) {
                r->blocked = relay_source_is_ready(r);
                return 0;
        }
        if (errno != EINVAL && errno != ENOSYS)
                return relay_end(r, errno);
        r->copying = true; /* terminals, files opened for appending, ... */
        return relay_copy(r);
}
