#include "kernel/capability.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/prctl.h>

static void capability_freep(cap_t *c) {
        if (*c)
                cap_free(*c);
}

static bool capability_is_in(cap_value_t c, const cap_value_t *set, int n) {
        for (int i = 0; i < n; i++)
                if (set[i] == c)
                        return true;
        return false;
}

static int capability_bound(const cap_value_t *keep, int n, Error **reterr) {
        /* The kernel may know more capabilities than libcap: go on until it says there is none. */
        for (cap_value_t c = 0;; c++) {
                int held = prctl(PR_CAPBSET_READ, c);

                if (held < 0)
                        return 0;
                if (held == 1 && !capability_is_in(c, keep, n) && prctl(PR_CAPBSET_DROP, c) < 0)
                        return error_set(reterr, errno,
                                         "cannot drop capability %d from the bounding set", c);
        }
}

int capability_drop_bounding(Error **reterr) {
        return capability_bound(NULL, 0, reterr);
}

int capability_keep_only(const cap_value_t *keep, int n, Error **reterr) {
        _cleanup_(capability_freep) cap_t set = cap_init();

        if (!set)
                return error_set(reterr, ENOMEM, "cannot drop capabilities");
        if (n > 0 && (cap_set_flag(set, CAP_PERMITTED, n, keep, CAP_SET) < 0 ||
                      cap_set_flag(set, CAP_EFFECTIVE, n, keep, CAP_SET) < 0))
                return error_set(reterr, errno, "cannot name the capabilities to keep");
        if (cap_set_proc(set) < 0)
                return error_set(reterr, errno, "cannot drop capabilities");
        return 0;
}

int capability_limit(const cap_value_t *keep, int n, Error **reterr) {
        cap_value_t held[CAP_LAST_CAP + 1];
        int n_held = 0, r = capability_bound(keep, n, reterr);

        /* What the host did not give cannot be kept. */
        for (int i = 0; i < n; i++)
                if (prctl(PR_CAPBSET_READ, keep[i]) == 1)
                        held[n_held++] = keep[i];
        return r < 0 ? r : capability_keep_only(held, n_held, reterr);
}

int capability_drop_all(Error **reterr) {
        int r = capability_drop_bounding(reterr);

        if (r < 0)
                return r;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
                return error_set(reterr, errno, "cannot clear the ambient capabilities");
        return capability_keep_only(NULL, 0, reterr);
}
