/*
 * Frames over a stream socket; the format and its limits stand in frame.h
 *
 * Model:     a reader asks the kernel for the rest of the header, then for the rest of the message,
 * and for nothing else. So no byte of the next frame is taken, and since descriptors travel with
 *            the byte they were sent with (unix(7)), each belongs to the frame at hand.
 * Trust:     the peer may send anything. A control buffer is offered only where descriptors may
 * come, with a frame's first byte; anywhere else the kernel drops them unopened and says
 * MSG_CTRUNC. Sockets must not have SO_PASSCRED set: it would look the same.
 */
#include "proto/wire/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

/* A frame may hold a credential: its bytes do not stay in memory that is free. */
static void frame_forget_data(uint8_t *data, size_t size) {
        if (data)
                explicit_bzero(data, size);
        free(data);
}

void frame_done(Frame *f) {
        frame_forget_data(f->data, f->size);
        fd_close_many(f->fds, f->n_fds);
        *f = (Frame){};
}

void frame_reader_init(FrameReader *r, size_t max_size, size_t max_fds) {
        *r = (FrameReader){
                .max_size = MIN_OF(max_size, (size_t)FRAME_MAX_SIZE),
                .max_fds = MIN_OF(max_fds, (size_t)FRAME_MAX_FDS),
        };
}

static void frame_reader_forget(FrameReader *r) {
        frame_forget_data(r->data, r->have);
        fd_close_many(r->fds, r->n_fds);
        r->data = NULL;
        r->header_have = r->size = r->have = r->n_fds = 0;
}

void frame_reader_done(FrameReader *r) {
        frame_reader_forget(r);
}

static int frame_reader_break(FrameReader *r, int error) {
        frame_reader_forget(r);
        r->broken = true;
        return error;
}

/* Takes what a frame can hold; anything beyond is closed at once and counted, so that it is
 * refused. */
static void frame_reader_take_fds(FrameReader *r, struct msghdr *msg) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        if (r->n_fds < FRAME_MAX_FDS)
                                r->fds[r->n_fds++] = fd;
                        else
                                fd_close(fd);
                }
        }
}

/* One read of at most @size bytes. Return: bytes, 0 at end of stream, -errno. */
static ssize_t frame_reader_receive(FrameReader *r, int fd, void *to, size_t size, bool first) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * FRAME_MAX_FDS)];
        } control;
        struct iovec iov = {.iov_base = to, .iov_len = size};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n = -1;

        if (first && r->max_fds > 0) {
                msg.msg_control = &control;
                msg.msg_controllen = sizeof control;
        }
        do {
                n = r->plain ? read(fd, to, size) : recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
                if (n < 0 && errno == ENOTSOCK && !r->plain) {
                        r->plain = true;
                        errno = EINTR;
                }
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (r->plain)
                return n;
        frame_reader_take_fds(r, &msg);
        if (msg.msg_flags & MSG_CTRUNC)
                return -EBADMSG;
        return n;
}

static int frame_reader_check_header(FrameReader *r, Error **reterr) {
        size_t n_fds = r->header[4];
        uint32_t size;

        memcpy(&size, r->header, sizeof size);
        size = be32toh(size);
        if (r->header[5] || r->header[6] || r->header[7])
                return error_refuse(reterr, EBADMSG, "both sides must speak carrel's protocol",
                                    "broken frame: its reserved bytes are not zero");
        if (size > r->max_size)
                return error_refuse(reterr, EMSGSIZE, NULL,
                                    "frame of %u bytes refused: at most %zu are accepted here",
                                    size, r->max_size);
        if (n_fds > r->max_fds)
                return error_refuse(
                        reterr, EBADMSG, NULL,
                        "frame with %zu descriptors refused: at most %zu are accepted here", n_fds,
                        r->max_fds);
        if (n_fds != r->n_fds)
                return error_refuse(reterr, EBADMSG, NULL,
                                    "broken frame: it declares %zu descriptors, but %zu came",
                                    n_fds, r->n_fds);
        r->data = malloc(size ?: 1);
        if (!r->data)
                return error_set(reterr, ENOMEM, "cannot receive a frame of %u bytes", size);
        r->size = size;
        return 0;
}

/* Brings header or message further. Return: 1, 0 at end of stream, -errno. */
static int frame_reader_advance(FrameReader *r, int fd, Error **reterr) {
        bool in_header = r->header_have < FRAME_HEADER_SIZE;
        uint8_t *to = in_header ? r->header + r->header_have : r->data + r->have;
        size_t want = in_header ? FRAME_HEADER_SIZE - r->header_have : r->size - r->have;
        ssize_t n = frame_reader_receive(r, fd, to, want, in_header && r->header_have == 0);

        if (n == -EAGAIN)
                return -EAGAIN;
        if (n == -EBADMSG)
                return error_refuse(reterr, EBADMSG, NULL,
                                    "broken frame: undeclared descriptors came");
        if (n < 0)
                return error_set(reterr, (int)-n, "cannot receive a frame");
        if (n == 0 && in_header && r->header_have == 0)
                return 0;
        if (n == 0)
                return error_refuse(reterr, EBADMSG, NULL,
                                    "broken frame: the stream ends inside of it");
        if (!in_header) {
                r->have += (size_t)n;
                return 1;
        }
        r->header_have += (size_t)n;
        if (r->header_have == FRAME_HEADER_SIZE) {
                int k = frame_reader_check_header(r, reterr);

                if (k < 0)
                        return k;
        }
        return 1;
}

int frame_reader_read(FrameReader *r, int fd, Frame *ret_frame, Error **reterr) {
        if (r->broken)
                return error_refuse(reterr, EBADMSG, "close the connection",
                                    "cannot receive: an earlier frame was broken");
        while (r->header_have < FRAME_HEADER_SIZE || r->have < r->size) {
                int k = frame_reader_advance(r, fd, reterr);

                if (k == 0 || k == -EAGAIN)
                        return k;
                if (k < 0)
                        return frame_reader_break(r, k);
        }
        *ret_frame = (Frame){.data = TAKE_PTR(r->data), .size = r->size, .n_fds = r->n_fds};
        for (size_t i = 0; i < FRAME_MAX_FDS; i++)
                ret_frame->fds[i] = i < r->n_fds ? r->fds[i] : -EBADF;
        r->n_fds = 0; /* handed over */
        frame_reader_forget(r);
        return 1;
}

int frame_encode(const Message *m, size_t n_fds, uint8_t **ret_data, size_t *ret_size) {
        size_t size = protobuf_c_message_get_packed_size(m);
        uint32_t length = htobe32((uint32_t)size);
        uint8_t *data;

        if (size > FRAME_MAX_SIZE)
                return -EMSGSIZE;
        if (n_fds > FRAME_MAX_FDS)
                return -EINVAL;
        data = malloc(FRAME_HEADER_SIZE + size);
        if (!data)
                return -ENOMEM;
        memset(data, 0, FRAME_HEADER_SIZE);
        memcpy(data, &length, sizeof length);
        data[4] = (uint8_t)n_fds;
        protobuf_c_message_pack(m, data + FRAME_HEADER_SIZE);
        *ret_data = data;
        *ret_size = FRAME_HEADER_SIZE + size;
        return 0;
}

ssize_t frame_send_data(int fd, const uint8_t *data, size_t size, const int *fds, size_t n_fds) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * FRAME_MAX_FDS)];
        } control = {};
        /* sendmsg(2) reads only; its type cannot say so. */
        struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t n;

        if (n_fds > FRAME_MAX_FDS)
                return -EINVAL;
        if (n_fds > 0) {
                struct cmsghdr *c = &control.align;

                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        do
                n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

int frame_send(int fd, const Message *m, const int *fds, size_t n_fds, Error **reterr) {
        uint8_t *data = NULL;
        size_t size, sent = 0;
        int k = frame_encode(m, n_fds, &data, &size);

        if (k < 0)
                return error_set(reterr, -k, "cannot send a '%s'", m->descriptor->short_name);
        while (k >= 0 && sent < size) {
                ssize_t n =
                        frame_send_data(fd, data + sent, size - sent, fds, sent == 0 ? n_fds : 0);

                if (n < 0)
                        k = error_set(reterr, (int)-n, "cannot send a '%s'",
                                      m->descriptor->short_name);
                else
                        sent += (size_t)n;
        }
        frame_forget_data(data, size);
        return k;
}

int frame_receive(int fd,
                  const MessageDescriptor *d,
                  size_t max_size,
                  void **ret_message,
                  int *ret_fds,
                  size_t max_fds,
                  Error **reterr) {
        _cleanup_(frame_reader_done) FrameReader reader = {};
        _cleanup_(frame_done) Frame frame = {};
        int k;

        for (size_t i = 0; i < max_fds; i++)
                ret_fds[i] = -EBADF;
        frame_reader_init(&reader, max_size, max_fds);
        k = frame_reader_read(&reader, fd, &frame, reterr);
        if (k == 0)
                return error_refuse(reterr, ECONNRESET, NULL, "the peer closed the connection");
        if (k == -EAGAIN)
                return error_set(reterr, EAGAIN, "cannot receive a '%s'", d->short_name);
        if (k < 0)
                return error_wrap(reterr, k, "cannot receive a '%s'", d->short_name);
        k = message_unpack(d, frame.data, frame.size, ret_message);
        if (k < 0)
                return error_refuse(reterr, -k, "both sides must speak carrel's protocol",
                                    "cannot receive a '%s': these %zu bytes are none",
                                    d->short_name, frame.size);
        for (size_t i = 0; i < frame.n_fds; i++)
                ret_fds[i] = TAKE_FD(frame.fds[i]);
        return 0;
}
