#include "network/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>

#include "base/fd.h"
#include "network/loopback.h"

static int netns_open_own(Error **reterr) {
        int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

        return fd < 0 ? error_set(reterr, errno, "cannot open '/proc/self/ns/net'") : fd;
}

int netns_pool_init(NetnsPool *ret_pool, Error **reterr) {
        int fd = netns_open_own(reterr);

        if (fd < 0)
                return fd;
        /* The way back from each that is made: not to have it is known before it is needed. */
        if (setns(fd, CLONE_NEWNET) < 0) {
                int r = error_set(reterr, errno, "cannot enter a network namespace");

                fd_close(fd);
                return r;
        }
        *ret_pool = (NetnsPool){.host_fd = fd};
        return 0;
}

static int netns_make(int host_fd, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (unshare(CLONE_NEWNET) < 0)
                return error_set(reterr, errno, "cannot create a network namespace");
        r = loopback_up(reterr);
        if (r == 0)
                r = fd = netns_open_own(reterr);
        /* A zygote that cannot come back would put its children in the wrong place. */
        if (setns(host_fd, CLONE_NEWNET) < 0)
                abort();
        return r < 0 ? r : TAKE_FD(fd);
}

int netns_pool_add(NetnsPool *p, Error **reterr) {
        int fd;

        if (p->n == NETNS_POOL_SIZE)
                return 0;
        fd = netns_make(p->host_fd, reterr);
        if (fd < 0)
                return fd;
        p->fds[p->n++] = fd;
        return 0;
}

int netns_pool_take(NetnsPool *p) {
        return p->n > 0 ? p->fds[--p->n] : -EBADF;
}

void netns_pool_done(NetnsPool *p) {
        fd_close_many(p->fds, p->n);
        p->n = 0;
        p->host_fd = fd_close(p->host_fd);
}
