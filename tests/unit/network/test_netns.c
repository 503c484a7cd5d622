#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/fd.h"
#include "network/netns.h"

static ino_t inode_of(int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        return st.st_ino;
}

static bool loopback_is_up(void) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq request = {.ifr_name = "lo"};

        assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
        return request.ifr_flags & IFF_UP;
}

static int fill(NetnsPool *p, Error **reterr) {
        int r = 0;

        for (size_t i = 0; r == 0 && i < NETNS_POOL_SIZE + 1; i++) /* one more: full stays full */
                r = netns_pool_add(p, reterr);
        return r;
}

static void a_pool_holds_namespaces_of_their_own_with_loopback_up(void **state) {
        _cleanup_error_ Error *e = NULL;
        NetnsPool p;

        if (netns_pool_init(&p, &e) < 0 || fill(&p, &e) < 0)
                fail_msg("%s", e->what);
        assert_int_equal(p.n, NETNS_POOL_SIZE);
        for (size_t i = 0; i < p.n; i++) {
                assert_int_not_equal(inode_of(p.fds[i]), inode_of(p.host_fd));
                for (size_t k = 0; k < i; k++)
                        assert_int_not_equal(inode_of(p.fds[i]), inode_of(p.fds[k]));
                assert_int_equal(setns(p.fds[i], CLONE_NEWNET), 0);
                assert_true(loopback_is_up());
                assert_int_equal(setns(p.host_fd, CLONE_NEWNET), 0);
        }
        netns_pool_done(&p);
}

static void filling_leaves_the_process_where_it_was(void **state) {
        _cleanup_close_ int now = -EBADF;
        NetnsPool p;

        assert_int_equal(netns_pool_init(&p, NULL), 0);
        assert_int_equal(fill(&p, NULL), 0);
        now = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_int_equal(inode_of(now), inode_of(p.host_fd));
        netns_pool_done(&p);
}

static void each_namespace_is_given_once(void **state) {
        NetnsPool p;
        int fd;

        assert_int_equal(netns_pool_init(&p, NULL), 0);
        assert_int_equal(netns_pool_take(&p), -EBADF);
        assert_int_equal(fill(&p, NULL), 0);
        fd = netns_pool_take(&p);
        assert_true(fd >= 0);
        assert_int_equal(p.n, NETNS_POOL_SIZE - 1);
        for (size_t i = 0; i < p.n; i++)
                assert_int_not_equal(p.fds[i], fd);
        fd_close(fd);
        netns_pool_done(&p);
        assert_int_equal(netns_pool_take(&p), -EBADF);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_pool_holds_namespaces_of_their_own_with_loopback_up),
                cmocka_unit_test(filling_leaves_the_process_where_it_was),
                cmocka_unit_test(each_namespace_is_given_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
