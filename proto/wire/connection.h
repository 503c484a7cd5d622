/*
 * A peer on the event loop: frames in by callback, frames out through a bounded queue
 *
 * Invariant: a connection never holds more than its queue's limit. A sender that produces faster
 * than its peer reads asks connection_has_room() first, and goes on when `drained` is called: a
 * cursor on disk needs no other memory. Trust:     the peer is hostile: a frame that breaks the
 * rules closes this connection, and no other.
 */
#pragma once

#include <systemd/sd-event.h>

#include "proto/wire/frame.h"

typedef struct Connection Connection;

typedef struct ConnectionHandlers {
        /* A whole frame; borrowed, descriptors may be taken. A negative return closes the
         * connection. */
        int (*frame)(Connection *c, Frame *frame, void *data);
        /* Gone, or closed for @why (NULL: the peer ended it in order). Called once; the callee
         * frees the connection. */
        void (*closed)(Connection *c, const Error *why, void *data);
        /* The queue is empty again; may be NULL. */
        void (*drained)(Connection *c, void *data);
} ConnectionHandlers;

typedef struct ConnectionLimits {
        size_t max_frame; /* longest message accepted */
        size_t max_fds;   /* most descriptors accepted with one */
        size_t max_queue; /* bytes waiting to be sent */
        bool in_turn;     /* nothing is read while something waits to be sent */
        unsigned burst;   /* turns in 10 ms, then its peer waits; 0: as many as it likes */
} ConnectionLimits;

/** connection_new() - @fd is consumed, also on failure. */
int connection_new(sd_event *event,
                   int fd,
                   const ConnectionLimits *limits,
                   const ConnectionHandlers *handlers,
                   void *data,
                   Connection **ret_connection,
                   Error **reterr);

/**
 * connection_send() - queue a message, and send what the socket takes at once
 * @fds: borrowed; duplicated where they must wait
 *
 * Return: 0; -ENOBUFS when the queue's limit would be passed (nothing is queued); -EPIPE once it is
 * closed.
 */
int connection_send(Connection *c, const Message *m, const int *fds, size_t n_fds);

/** connection_has_room() - less than half of the queue is in use. */
bool connection_has_room(const Connection *c);

/** connection_fd() - for getsockopt(2) only. */
int connection_fd(const Connection *c);

/** connection_close() - from outside a handler: calls `closed` with @why. */
void connection_close(Connection *c, const Error *why);

Connection *connection_free(Connection *c);

static inline void connection_freep(Connection **c) {
        *c = connection_free(*c);
}
