#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "kernel/userns.h"
#include "workspace/resources.h"

#define FIRST_ID 1879048192u

typedef struct Fixture {
        char path[64];
        int state_fd, run_fd, source_fd;
        CgroupHost cgroup;
        Plan plan;
        Carrel__V1__PlanIdentity identity;
        char run[64];
} Fixture;

static int open_made(int dir_fd, const char *name) {
        assert_int_equal(mkdirat(dir_fd, name, 0755), 0);
        return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int fixture_setup(void **state) {
        Fixture *f = calloc(1, sizeof *f);
        _cleanup_error_ Error *e = NULL;

        strcpy(f->path, "/tmp/carrel-test-resources-XXXXXX");
        assert_non_null(mkdtemp(f->path));
        f->state_fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(open_made(f->state_fd, RESOURCES_IDS_DIR));
        f->run_fd = open_made(f->state_fd, "run");
        f->source_fd = open_made(f->state_fd, "source");
        snprintf(f->run, sizeof f->run, "test-resources-%d", (int)getpid());
        carrel__v1__plan__init(&f->plan);
        carrel__v1__plan_identity__init(&f->identity);
        f->identity.uid = f->identity.gid = 1000;
        f->plan.identity = &f->identity;
        if (cgroup_host_open(&f->cgroup, &e) < 0)
                fail_msg("%s", e->what);
        *state = f;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *f = *state;

        (void)resources_release(f->state_fd, f->run_fd, f->run, NULL);
        cgroup_parent_release(&f->cgroup);
        cgroup_host_done(&f->cgroup);
        fd_close(f->run_fd);
        fd_close(f->source_fd);
        fd_close(f->state_fd);
        assert_int_equal(fd_remove_tree(AT_FDCWD, f->path, NULL), 0);
        free(f);
        return 0;
}

static int acquire(Fixture *f, Resources *ret, Error **reterr) {
        ResourcesSpec spec = {
                .state_fd = f->state_fd,
                .run_fd = f->run_fd,
                .run = f->run,
                .plan = &f->plan,
                .source_fd = f->source_fd,
                .cgroup = &f->cgroup,
        };

        return resources_acquire(&spec, ret, reterr);
}

static void count_owner(const char *run, void *data) {
        ++*(unsigned *)data;
}

static unsigned count_owners(const Fixture *f) {
        unsigned n = 0;

        assert_int_equal(resources_find_owners(f->state_fd, count_owner, &n, NULL), 0);
        return n;
}

static void what_is_acquired_is_whole_and_is_given_back_whole(void **state) {
        Fixture *f = *state;
        struct stat st;
        Resources res;

        assert_int_equal(acquire(f, &res, NULL), 0);
        assert_int_equal((res.base_id - FIRST_ID) % USERNS_RANGE, 0);
        assert_true(res.shim_id > FIRST_ID && res.shim_id < FIRST_ID + USERNS_RANGE);
        assert_int_equal(count_owners(f), 1);
        assert_int_equal(fstatat(f->run_fd, "layers/root/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, res.base_id);
        assert_int_equal(fstatat(f->run_fd, "layers/source/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, res.base_id + 1000);

        assert_int_equal(resources_release(f->state_fd, f->run_fd, f->run, NULL), 0);
        assert_int_equal(count_owners(f), 0);
        assert_int_equal(fstatat(f->run_fd, "layers/root", &st, 0), -1);
        assert_int_equal(fstatat(f->run_fd, "layers/source/upper", &st, 0), 0); /* the record */
        assert_int_equal(faccessat(f->run_fd, "cgroups", F_OK, 0), -1);
}

static void giving_back_twice_is_giving_back_once(void **state) {
        Fixture *f = *state;
        Resources res;

        assert_int_equal(acquire(f, &res, NULL), 0);
        assert_int_equal(resources_release(f->state_fd, f->run_fd, f->run, NULL), 0);
        assert_int_equal(resources_release(f->state_fd, f->run_fd, f->run, NULL), 0);
}

static void what_fails_half_way_is_taken_back(void **state) {
        Fixture *f = *state;
        _cleanup_error_ Error *e = NULL;
        Resources res;

        /* The second resource finds its place taken: the first, the id range, must not stay
         * reserved. */
        assert_int_equal(mkdirat(f->run_fd, "layers", 0700), 0);
        assert_int_equal(acquire(f, &res, &e), -EEXIST);
        assert_non_null(strstr(e->what, "layers"));
        assert_int_equal(count_owners(f), 0);
}

static void the_pool_is_what_the_operator_says(void **state) {
        Fixture *f = *state;
        _cleanup_error_ Error *e = NULL;
        Resources res, found;

        assert_int_equal(resources_set_pool(f->state_fd, "655360:131072", NULL), 0);
        assert_int_equal(acquire(f, &res, NULL), 0);
        assert_int_equal(res.base_id, 655360 + 65536); /* the one range there is */
        assert_int_equal(res.shim_id, 655361);
        assert_int_equal(resources_find(f->state_fd, f->run, &found, NULL), 0);
        assert_int_equal(found.base_id, res.base_id);
        /* Said again it is no change; another is one, and somebody has ids. */
        assert_int_equal(resources_set_pool(f->state_fd, "655360:131072", NULL), 0);
        assert_int_equal(resources_set_pool(f->state_fd, "1310720:131072", &e), -EBUSY);
        assert_non_null(strstr(e->hint, "stop them"));
        assert_int_equal(resources_release(f->state_fd, f->run_fd, f->run, NULL), 0);
        assert_int_equal(resources_set_pool(f->state_fd, "1310720:131072", NULL), 0);
}

static void what_is_no_pool_is_refused(void **state) {
        static const char *const bad[] = {
                "",
                "655360",
                "655360:",
                "655361:131072",
                "655360:131073",
                "0:131072",
                "655360:65536",
                "4294901760:131072",
                "-65536:131072",
                "65536:-131072",
                "99999999999999999999999:131072",
                "655360:131072x",
        };
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_error_ Error *e = NULL;

                assert_int_equal(resources_set_pool(f->state_fd, bad[i], &e), -EINVAL);
                assert_non_null(e->hint);
        }
}

static void without_a_free_range_the_run_is_refused(void **state) {
        Fixture *f = *state;
        _cleanup_close_ int ids =
                openat(f->state_fd, RESOURCES_IDS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_error_ Error *e = NULL;
        Resources res;

        for (unsigned i = 1; i <= 4094u; i++) {
                char name[16];

                snprintf(name, sizeof name, "%u", i);
                assert_int_equal(symlinkat("another", ids, name), 0);
        }
        assert_int_equal(acquire(f, &res, &e), -EUSERS);
        assert_non_null(e->hint);
        /* One is given back: that one is found, wherever the search begins. */
        assert_int_equal(unlinkat(ids, "77", 0), 0);
        assert_int_equal(acquire(f, &res, NULL), 0);
        assert_int_equal(res.base_id, FIRST_ID + 77 * USERNS_RANGE);
}

static void without_root_all_runs_have_the_users_ids(void **state) {
        Fixture *f = *state;
        ResourcesSpec spec = {
                .state_fd = f->state_fd,
                .run_fd = f->run_fd,
                .run = f->run,
                .plan = &f->plan,
                .source_fd = f->source_fd,
                .cgroup = &(CgroupHost){0},
                .layout = USERNS_LAYOUT_RANGE,
        };
        struct stat st;
        Resources res;

        assert_int_equal(resources_acquire(&spec, &res, NULL), 0);
        assert_int_equal(res.base_id, 1);
        assert_int_equal(res.shim_id, 0);
        assert_int_equal(count_owners(f), 1);
        assert_int_equal(fstatat(f->run_fd, "layers/root/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, 1);
        assert_int_equal(fstatat(f->run_fd, "layers/source/upper", &st, 0), 0);
        assert_int_equal(st.st_uid, 0);
        assert_int_equal(resources_release(f->state_fd, f->run_fd, f->run, NULL), 0);
        assert_int_equal(count_owners(f), 0);
}

static void a_run_without_groups_is_over_when_its_first_process_is(void **state) {
        Fixture *f = *state;
        _cleanup_error_ Error *e = NULL;
        pid_t pid = fork();
        int r = -EBUSY;

        if (pid == 0)
                for (;;)
                        pause();
        assert_int_equal(resources_note_init(f->run_fd, pid, NULL), 0);
        assert_int_equal(kill(pid, SIGSTOP), 0); /* it dies all the same, but not at once */
        for (int tries = 0; r == -EBUSY && tries < 1000; tries++) {
                r = resources_stop(f->state_fd, f->run_fd, f->run, e ? NULL : &e);
                if (r == -EBUSY)
                        usleep(1000);
        }
        assert_int_equal(r, 0);
        assert_int_equal(waitpid(pid, NULL, WNOHANG), pid);
        assert_int_equal(faccessat(f->run_fd, "init", F_OK, 0), -1);
}

/* A process id that somebody else has by now: the note names when its process had started. */
static void a_later_process_of_the_same_number_is_left_alone(void **state) {
        Fixture *f = *state;
        char text[32];
        int n = snprintf(text, sizeof text, "%d 1\n", (int)getpid());

        assert_int_equal(file_create_at(f->run_fd, "init", 0600, text, (size_t)n, NULL), 0);
        assert_int_equal(resources_stop(f->state_fd, f->run_fd, f->run, NULL), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(the_pool_is_what_the_operator_says, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(what_is_no_pool_is_refused, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(what_is_acquired_is_whole_and_is_given_back_whole,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(giving_back_twice_is_giving_back_once,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(what_fails_half_way_is_taken_back, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(without_a_free_range_the_run_is_refused,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(without_root_all_runs_have_the_users_ids,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        a_run_without_groups_is_over_when_its_first_process_is, fixture_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(a_later_process_of_the_same_number_is_left_alone,
                                                fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
