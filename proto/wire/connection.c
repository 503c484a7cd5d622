#include "proto/wire/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"

#define CONNECTION_BURST_US UINT64_C(10000)

typedef struct Outgoing {
        struct Outgoing *next;
        uint8_t *data;
        size_t size, sent;
        int fds[FRAME_MAX_FDS];
        size_t n_fds;
} Outgoing;

struct Connection {
        int fd;
        sd_event_source *source;
        FrameReader reader;
        ConnectionLimits limits;
        ConnectionHandlers handlers;
        void *data;
        Outgoing *first, **last;
        size_t queued;
        bool mute; /* the peer takes nothing more; what it said before may still be read */
        bool closed;
};

static Outgoing *outgoing_free(Outgoing *o) {
        if (!o)
                return NULL;
        fd_close_many(o->fds, o->n_fds);
        if (o->data)
                explicit_bzero(o->data, o->size); /* it may hold a credential */
        free(o->data);
        free(o);
        return NULL;
}

static void outgoing_freep(Outgoing **o) {
        *o = outgoing_free(*o);
}

static int connection_watch(Connection *c) {
        uint32_t in = c->first && c->limits.in_turn ? 0 : EPOLLIN;

        return sd_event_source_set_io_events(c->source, in | (c->first ? EPOLLOUT : 0));
}

static void connection_report_closed(Connection *c, const Error *why) {
        if (c->closed)
                return;
        c->closed = true;
        c->source = sd_event_source_disable_unref(c->source);
        c->fd = fd_close(c->fd);
        c->handlers.closed(c, why, c->data);
}

/* Sends from the queue's head what the socket takes. Return: 0, or a negative errno that ends it.
 */
static int connection_flush(Connection *c) {
        while (c->first) {
                Outgoing *o = c->first;
                bool begins = o->sent == 0;
                ssize_t n = frame_send_data(c->fd, o->data + o->sent, o->size - o->sent,
                                            begins ? o->fds : NULL, begins ? o->n_fds : 0);

                if (n < 0)
                        return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
                if (begins) {
                        fd_close_many(o->fds, o->n_fds);
                        o->n_fds = 0;
                }
                o->sent += (size_t)n;
                if (o->sent < o->size)
                        return 0;
                c->queued -= o->size;
                c->first = o->next;
                if (!c->first)
                        c->last = &c->first;
                outgoing_free(o);
        }
        return 0;
}

/* One frame a call: a peer that floods shares the loop with the others. */
static int connection_receive(Connection *c, Error **reterr) {
        Frame frame = {0};
        int r = frame_reader_read(&c->reader, c->fd, &frame, reterr);

        if (r == -EAGAIN || r == -EINTR)
                return 1;
        if (r <= 0)
                return r;
        r = c->handlers.frame(c, &frame, c->data);
        frame_done(&frame);
        return r < 0 ? r : 1;
}

static void connection_forget_outgoing(Connection *c) {
        while (c->first) {
                Outgoing *o = c->first;

                c->first = o->next;
                outgoing_free(o);
        }
        c->last = &c->first;
        c->queued = 0;
}

static int connection_ready(sd_event_source *s, int fd, uint32_t revents, void *data) {
        _cleanup_error_ Error *error = NULL;
        Connection *c = data;
        bool full = c->first != NULL;
        int r = 1;

        if ((revents & EPOLLOUT) && connection_flush(c) < 0) {
                connection_forget_outgoing(c);
                c->mute = true;
        }
        if (full && !c->first && !c->mute && c->handlers.drained)
                c->handlers.drained(c, c->data);
        if (r > 0 && !c->closed && (revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                r = connection_receive(c, &error);
        if (r > 0 && !c->closed)
                r = connection_watch(c) < 0 ? -ENOMEM : 1;
        if (r <= 0)
                connection_report_closed(c, error);
        return 0;
}

int connection_new(sd_event *event,
                   int fd,
                   const ConnectionLimits *limits,
                   const ConnectionHandlers *handlers,
                   void *data,
                   Connection **ret_connection,
                   Error **reterr) {
        _cleanup_(connection_freep) Connection *c = calloc(1, sizeof *c);
        int r;

        if (!c) {
                fd_close(fd);
                return error_set(reterr, ENOMEM, "cannot serve a connection");
        }
        c->fd = fd;
        c->limits = *limits;
        c->handlers = *handlers;
        c->data = data;
        c->last = &c->first;
        frame_reader_init(&c->reader, limits->max_frame, limits->max_fds);
        r = fd_set_nonblocking(fd, 1);
        if (r >= 0)
                r = sd_event_add_io(event, &c->source, fd, EPOLLIN, connection_ready, c);
        if (r >= 0 && limits->burst > 0)
                r = sd_event_source_set_ratelimit(c->source, CONNECTION_BURST_US, limits->burst);
        if (r < 0)
                return error_set(reterr, -r, "cannot serve a connection");
        *ret_connection = TAKE_PTR(c);
        return 0;
}

int connection_send(Connection *c, const Message *m, const int *fds, size_t n_fds) {
        _cleanup_(outgoing_freep) Outgoing *o = NULL;
        int r;

        if (c->closed || c->mute)
                return -EPIPE;
        o = calloc(1, sizeof *o);
        if (!o)
                return -ENOMEM;
        r = frame_encode(m, n_fds, &o->data, &o->size);
        if (r < 0)
                return r;
        if (c->queued + o->size > c->limits.max_queue)
                return -ENOBUFS;
        for (; o->n_fds < n_fds; o->n_fds++) {
                o->fds[o->n_fds] = fcntl(fds[o->n_fds], F_DUPFD_CLOEXEC, 3);
                if (o->fds[o->n_fds] < 0)
                        return -errno;
        }
        c->queued += o->size;
        *c->last = o;
        c->last = &o->next;
        o = NULL;
        /* A failing socket is reported by the loop, not from within a caller that holds pointers.
         */
        (void)connection_flush(c);
        return connection_watch(c) < 0 ? -ENOMEM : 0;
}

bool connection_has_room(const Connection *c) {
        return !c->closed && c->queued < c->limits.max_queue / 2;
}

int connection_fd(const Connection *c) {
        return c->fd;
}

void connection_close(Connection *c, const Error *why) {
        connection_report_closed(c, why);
}

Connection *connection_free(Connection *c) {
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->source);
        fd_close(c->fd);
        frame_reader_done(&c->reader);
        connection_forget_outgoing(c);
        free(c);
        return NULL;
}
