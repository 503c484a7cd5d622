/*
 * Frames: protobuf messages with a length in front and descriptors beside, over a stream socket
 *
 *      0        4      5          8
 *      +--------+------+----------+---------------------+
 *      | length | fds  | zero     | message             |
 *      +--------+------+----------+---------------------+
 *
 * length: bytes of the message, big endian. fds: descriptors that come with this frame, sent with
 * its first byte as one SCM_RIGHTS message (unix(7)). zero: three bytes, must be 0.
 *
 * Trust:     every byte is hostile. Nothing is allocated before the length was held against the
 *            reader's limit; descriptors that a frame does not declare are closed and refused.
 * Invariant: a reader that returned an error stays broken; only closing the connection helps.
 */
#pragma once

#include <stdbool.h>

#include "proto/messages.h"

#define FRAME_HEADER_SIZE 8
#define FRAME_MAX_FDS     32
#define FRAME_MAX_SIZE    (4 * MIB) /* the most any peer may accept */

/* One received frame. fds are owned by whoever holds it; take what is kept, frame_done() closes the
 * rest. */
typedef struct Frame {
        uint8_t *data;
        size_t size;
        int fds[FRAME_MAX_FDS];
        size_t n_fds;
} Frame;

void frame_done(Frame *f);

typedef struct FrameReader {
        size_t max_size;
        size_t max_fds;
        uint8_t header[FRAME_HEADER_SIZE];
        size_t header_have;
        uint8_t *data; /* allocated once the header is whole and within limits */
        size_t size, have;
        int fds[FRAME_MAX_FDS];
        size_t n_fds;
        bool broken;
        bool plain; /* not a socket: read(2), and no descriptors */
} FrameReader;

/**
 * frame_reader_init() - a reader for one connection
 * @max_size: longest message accepted; at most FRAME_MAX_SIZE
 * @max_fds:  most descriptors accepted with one frame; at most FRAME_MAX_FDS
 */
void frame_reader_init(FrameReader *r, size_t max_size, size_t max_fds);
void frame_reader_done(FrameReader *r);

/**
 * frame_reader_read() - read from @fd until one frame is whole; never reads past it
 *
 * Works on blocking and non-blocking sockets, and on plain files (no descriptors then).
 *
 * Return: 1 and a frame; 0 at end of stream between two frames; -EAGAIN when nothing more is there
 * now; -EMSGSIZE (too long), -EBADMSG (bad header, wrong descriptors, end inside a frame), -errno.
 */
int frame_reader_read(FrameReader *r, int fd, Frame *ret_frame, Error **reterr);

/** frame_encode() - header and message in one fresh buffer, for writers that queue. -EMSGSIZE past
 * FRAME_MAX_SIZE. */
int frame_encode(const Message *m, size_t n_fds, uint8_t **ret_data, size_t *ret_size);

/**
 * frame_send_data() - send bytes of an encoded frame, with @fds if these are its first
 *
 * Never raises SIGPIPE. Return: bytes sent, or -errno (-EAGAIN).
 */
ssize_t frame_send_data(int fd, const uint8_t *data, size_t size, const int *fds, size_t n_fds);

/** frame_send() - a whole message on a blocking socket. @fds are borrowed. */
int frame_send(int fd, const Message *m, const int *fds, size_t n_fds, Error **reterr);

/**
 * frame_receive() - wait for one message on a blocking socket
 * @ret_fds: room for @max_fds; slots not filled are -EBADF; may be NULL with @max_fds 0
 *
 * Return: 0; -ECONNRESET at end of stream; as frame_reader_read().
 */
int frame_receive(int fd,
                  const MessageDescriptor *d,
                  size_t max_size,
                  void **ret_message,
                  int *ret_fds,
                  size_t max_fds,
                  Error **reterr);
