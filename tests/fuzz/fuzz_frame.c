/*
 * Fuzz target: bytes of a peer, through the frame reader and into a message
 *
 * The first byte says how many descriptors come with the first byte of the stream (more than a
 * frame may have, too); the rest is the stream, over a socket as a peer would send it.
 */
#include <fcntl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "fuzz/fuzz.h"
#include "proto/wire/frame.h"

#define MOST_BYTES 32768 /* fits into a socket's buffer: nobody reads while this writes */
#define MOST_FDS   20

static void send_stream(int fd, const uint8_t *data, size_t size, size_t n_fds) {
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(sizeof(int) * MOST_FDS)];
        } control = {};
        struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        static int null_fd = -EBADF;
        int fds[MOST_FDS];

        if (null_fd < 0)
                null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        for (size_t i = 0; i < n_fds; i++)
                fds[i] = null_fd;
        if (n_fds > 0) {
                struct cmsghdr *c = &control.align;

                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                __builtin_memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        if (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)size)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(frame_reader_done) FrameReader reader = {};
        int pair[2], r;

        if (size < 2 || size > MOST_BYTES)
                return 0;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                abort();
        send_stream(pair[1], data + 1, size - 1, data[0] % (MOST_FDS + 1));
        close(pair[1]);
        frame_reader_init(&reader, 16384, FRAME_MAX_FDS);
        do {
                _cleanup_(frame_done) Frame frame = {};
                _cleanup_message_ Request *request = NULL;
                void *m = NULL;

                r = frame_reader_read(&reader, pair[0], &frame, NULL);
                if (r > 0 && message_unpack(&carrel__v1__request__descriptor, frame.data,
                                            frame.size, &m) == 0)
                        request = m;
        } while (r > 0);
        if (r < 0 && frame_reader_read(&reader, pair[0], &(Frame){}, NULL) != -EBADMSG)
                abort(); /* broken must stay broken */
        close(pair[0]);
        return 0;
}
