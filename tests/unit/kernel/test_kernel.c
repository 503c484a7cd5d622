#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/cgroup.h"
#include "kernel/seccomp.h"
#include "kernel/userns.h"

/* What an id on disk becomes; UINT32_MAX where the map has no place for it. */
static uint32_t map_id(const UsernsMap *m, uint32_t inside) {
        for (size_t i = 0; i < m->n; i++)
                if (inside >= m->extents[i].inside &&
                    inside - m->extents[i].inside < m->extents[i].count)
                        return m->extents[i].outside + (inside - m->extents[i].inside);
        return UINT32_MAX;
}

static void assert_map_covers_everything_once(const UsernsMap *m, uint32_t base) {
        uint64_t covered = 0;

        for (size_t i = 0; i < m->n; i++) {
                assert_true(m->extents[i].count > 0);
                assert_true(m->extents[i].outside >= base);
                assert_true(m->extents[i].outside - base + m->extents[i].count <= USERNS_RANGE);
                covered += m->extents[i].count;
                for (size_t k = 0; k < i; k++) {
                        const UsernsExtent *a = &m->extents[i], *b = &m->extents[k];

                        assert_true(a->inside + a->count <= b->inside ||
                                    b->inside + b->count <= a->inside);
                        assert_true(a->outside + a->count <= b->outside ||
                                    b->outside + b->count <= a->outside);
                }
        }
        assert_true(covered == USERNS_RANGE);
}

static void any_owner_of_a_directory_becomes_the_harness_user(void **state) {
        static const uint32_t owners[] = {0, 1, 999, 1000, 1001, 65535, 65536, 4000000};

        for (size_t i = 0; i < ELEMENTSOF(owners); i++) {
                UsernsMap m = userns_map_owner(200000, owners[i], 1000);

                assert_map_covers_everything_once(&m, 200000);
                assert_int_equal(map_id(&m, owners[i]), 200000 + 1000);
                if (owners[i] != 5)
                        assert_int_equal(map_id(&m, 5), 200000 + 5);
        }
}

static void the_owner_and_the_user_change_places(void **state) {
        UsernsMap m = userns_map_owner(65536, 0, 1000);

        assert_int_equal(map_id(&m, 1000), 65536 + 0);
        assert_int_equal(map_id(&m, 0), 65536 + 1000);
}

static void a_user_namespace_is_known_by_what_it_may_give_away(void **state) {
        static const struct {
                const char *uids, *gids, *setgroups;
                UsernsLayout layout;
        } cases[] = {
                {"         0          0 4294967295\n", "0 0 4294967295\n", "allow\n",
                 USERNS_LAYOUT_HOST},
                {"0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n", "allow\n",
                 USERNS_LAYOUT_RANGE},
                {"0 100000 65537\n", "0 100000 65537\n", "allow\n", USERNS_LAYOUT_RANGE},
                {"0 100000 65536\n", "0 100000 65536\n", "allow\n", USERNS_LAYOUT_SINGLE},
                {"0 1000 1\n1 100000 65536\n", "0 1000 1\n", "allow\n", USERNS_LAYOUT_SINGLE},
                {"0 1000 1\n1 100000 65536\n", "0 1000 1\n1 100000 65536\n", "deny\n",
                 USERNS_LAYOUT_SINGLE},
                {"0 1000 1\n", "0 1000 1\n", "deny\n", USERNS_LAYOUT_SINGLE},
                {"", "", "allow\n", USERNS_LAYOUT_SINGLE},
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                assert_int_equal(userns_layout_of(cases[i].uids, cases[i].gids, cases[i].setgroups),
                                 cases[i].layout);
}

static void without_root_the_harness_is_the_user(void **state) {
        static const uint32_t users[] = {1, 1000, 65535, 65536, 4000000};

        for (size_t i = 0; i < ELEMENTSOF(users); i++) {
                UsernsMap range = userns_map_workspace(USERNS_LAYOUT_RANGE, 1, users[i]),
                          single = userns_map_workspace(USERNS_LAYOUT_SINGLE, 0, users[i]),
                          root = userns_map_workspace(USERNS_LAYOUT_HOST, 65536, users[i]);

                assert_int_equal(map_id(&range, users[i]), 0);
                assert_int_equal(map_id(&range, 0), 1);
                assert_int_equal(map_id(&range, 5), 6);
                assert_int_equal(userns_map_find(&range, 5), 6);
                assert_int_equal(map_id(&single, users[i]), 0);
                assert_int_equal(map_id(&single, 0), UINT32_MAX);
                assert_int_equal(userns_map_find(&single, 5), 0);
                assert_int_equal(map_id(&root, 1000), 65536 + 1000);
        }
}

static void a_user_namespace_has_the_map_that_was_asked_for(void **state) {
        UsernsMap m = userns_map_owner(1879048192u + 65536 * 7, 0, 1000);
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = userns_open(&m, &m, &e);

        if (fd < 0)
                fail_msg("%s", e->what);
        assert_int_equal(access("/proc/self/ns/user", F_OK), 0);
}

/* Or what the workspace holds of the kernel would be counted as root's. */
static void a_user_namespace_is_owned_by_an_id_of_its_own_range(void **state) {
        const uint32_t base = 1879048192u + 65536 * 7;
        UsernsMap m = userns_map_range(base);
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = userns_open(&m, &m, &e);
        uid_t owner = 0;

        if (fd < 0)
                fail_msg("%s", e->what);
        assert_int_equal(ioctl(fd, NS_GET_OWNER_UID, &owner), 0);
        assert_int_equal(owner, base + USERNS_RANGE - 1);
        assert_int_equal(geteuid(), 0);
}

static void a_filter_of_no_whole_instruction_is_refused(void **state) {
        _cleanup_error_ Error *e = NULL;

        assert_int_equal(seccomp_filter_load("abc", 3, &e), -EINVAL);
        assert_non_null(strstr(e->what, "3 bytes"));
        assert_int_equal(seccomp_filter_load("", 0, NULL), -EINVAL);
}

static void a_counter_is_found_by_its_whole_name(void **state) {
        char path[] = "/tmp/carrel-test-counter-XXXXXX";
        _cleanup_close_ int fd = mkstemp(path);

        assert_true(fd >= 0);
        unlink(path);
        assert_int_equal(fd_write_all(fd, "oom 3\noom_kill 14\nmax 2\n", 24), 0);
        assert_true(cgroup_counter(fd, "oom_kill") == 14);
        assert_true(cgroup_counter(fd, "oom") == 3);
        assert_true(cgroup_counter(fd, "low") == 0);
        assert_true(cgroup_counter(-EBADF, "low") == 0);
}

/* The life of a run's group, on whatever this host has: pure v2 or hybrid. */
static void a_group_is_limited_and_leaves_nothing(void **state) {
        CgroupLimits limits = {.memory_bytes = 64 * MIB, .pids = 17, .cpu_percent = 50};
        char path[] = "/tmp/carrel-test-cgroup-XXXXXX", name[64];
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int run_fd = -EBADF;
        _cleanup_free_ char *list = NULL;
        CgroupHost host;
        CgroupOpen group;

        assert_non_null(mkdtemp(path));
        run_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        snprintf(name, sizeof name, "test-%d", (int)getpid());
        if (cgroup_host_open(&host, &e) < 0 ||
            cgroup_create(&host, run_fd, name, &limits, &e) < 0 ||
            cgroup_open(&host, name, 0, &group, &e) < 0)
                fail_msg("%s", e->what);
        assert_int_equal(file_read_at(run_fd, "cgroups", 4096, &list, NULL, NULL), 0);
        assert_non_null(strstr(list, name));
        for (size_t i = 0, found = 0; i < host.n; i++) {
                _cleanup_free_ char *file = NULL, *value = NULL;

                assert_true(asprintf(&file, "%s/%s/pids.max", host.hierarchies[i].path, name) > 0);
                if (file_read_at(AT_FDCWD, file, 64, &value, NULL, NULL) == 0) {
                        assert_string_equal(value, "17\n");
                        found++;
                }
                if (i + 1 == host.n)
                        assert_int_equal(found, 1);
        }
        cgroup_open_done(&group);
        assert_int_equal(cgroup_kill(run_fd, NULL), 0);
        assert_int_equal(cgroup_destroy(run_fd, NULL), 0);
        for (size_t i = 0; i < host.n; i++) {
                _cleanup_free_ char *dir = NULL;

                assert_true(asprintf(&dir, "%s/%s", host.hierarchies[i].path, name) > 0);
                assert_int_equal(access(dir, F_OK), -1);
        }
        assert_int_equal(cgroup_destroy(run_fd, NULL), 0); /* again: nothing to do */
        cgroup_parent_release(&host);
        cgroup_host_done(&host);
        assert_int_equal(fd_remove_tree(AT_FDCWD, path, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(any_owner_of_a_directory_becomes_the_harness_user),
                cmocka_unit_test(the_owner_and_the_user_change_places),
                cmocka_unit_test(a_user_namespace_is_known_by_what_it_may_give_away),
                cmocka_unit_test(without_root_the_harness_is_the_user),
                cmocka_unit_test(a_user_namespace_has_the_map_that_was_asked_for),
                cmocka_unit_test(a_user_namespace_is_owned_by_an_id_of_its_own_range),
                cmocka_unit_test(a_filter_of_no_whole_instruction_is_refused),
                cmocka_unit_test(a_counter_is_found_by_its_whole_name),
                cmocka_unit_test(a_group_is_limited_and_leaves_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
