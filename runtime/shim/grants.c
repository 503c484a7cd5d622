/*
 * Grants: credentials with a scope and an expiry, as files under $CREDENTIALS_DIRECTORY
 *
 * Invariant: a value is in this process's memory, in the workspace's credentials directory while
 * its time runs, and nowhere else: not in an event, an environment, an argument list or a file of
 * the record. Life:      a grant of the run appears with the first attempt and stays until it
 * expires; a grant of an attempt appears with each attempt and goes with that attempt's harness.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/shim.h"

typedef struct GrantSlot {
        const Carrel__V1__PlanGrant *grant;
        uint8_t *value;
        size_t size;
        bool provided, expired;
        sd_event_source *timer;
        Shim *shim;
} GrantSlot;

struct Grants {
        size_t n;
        GrantSlot slots[];
};

static void grants_emit(Shim *s, const GrantSlot *g, Carrel__V1__GrantState state) {
        Carrel__V1__GrantChanged changed = CARREL__V1__GRANT_CHANGED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        changed.name = g->grant->name;
        changed.state = state;
        changed.attempt = s->attempt;
        event.body_case = CARREL__V1__EVENT__BODY_GRANT_CHANGED;
        event.grant_changed = &changed;
        shim_emit(s, &event);
}

/* An empty value takes it away. */
static void grants_send(Shim *s, const GrantSlot *g, size_t size) {
        Carrel__V1__InitCredential body = CARREL__V1__INIT_CREDENTIAL__INIT;
        InitRequest request = CARREL__V1__INIT_REQUEST__INIT;

        body.name = g->grant->name;
        body.value = (ProtobufCBinaryData){.len = size, .data = g->value};
        request.body_case = CARREL__V1__INIT_REQUEST__BODY_CREDENTIAL;
        request.credential = &body;
        shim_init_send(s, &request, NULL, 0);
}

static void grants_take(GrantSlot *g, Carrel__V1__GrantState state) {
        if (!g->provided)
                return;
        g->provided = false;
        g->timer = sd_event_source_disable_unref(g->timer);
        grants_send(g->shim, g, 0);
        grants_emit(g->shim, g, state);
}

static int grants_expire(sd_event_source *source, uint64_t us, void *data) {
        GrantSlot *g = data;

        g->expired = true;
        grants_take(g, CARREL__V1__GRANT_STATE__GRANT_STATE_EXPIRED);
        return 0;
}

void grants_provide(Shim *s) {
        for (size_t i = 0; i < s->grants->n; i++) {
                GrantSlot *g = &s->grants->slots[i];
                bool attempt = g->grant->scope == CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_ATTEMPT;

                if (g->provided || (g->expired && !attempt))
                        continue;
                /* No timer, no credential: it would never go. */
                if (g->grant->expires_us > 0 &&
                    sd_event_add_time_relative(s->event, &g->timer, CLOCK_BOOTTIME,
                                               g->grant->expires_us, 0, grants_expire, g) < 0)
                        continue;
                g->provided = true;
                grants_send(s, g, g->size);
                grants_emit(s, g, CARREL__V1__GRANT_STATE__GRANT_STATE_PROVIDED);
        }
}

void grants_revoke(Shim *s, bool all) {
        for (size_t i = 0; s->grants && i < s->grants->n; i++)
                if (all || s->grants->slots[i].grant->scope ==
                                   CARREL__V1__GRANT_SCOPE__GRANT_SCOPE_ATTEMPT)
                        grants_take(&s->grants->slots[i],
                                    CARREL__V1__GRANT_STATE__GRANT_STATE_REVOKED);
}

static int grants_add(Shim *s, GrantSlot *g, GrantValue *const *values, size_t n, Error **reterr) {
        for (size_t i = 0; i < n; i++) {
                const ProtobufCBinaryData *value = &values[i]->value;

                if (strcmp(values[i]->name, g->grant->name) != 0)
                        continue;
                if (mask_add(s->mask, (const char *)value->data, value->len) < 0)
                        return error_refuse(reterr, EINVAL,
                                            "a value that short cannot be kept out of logs",
                                            "the value of grant '%s' is shorter than %d bytes",
                                            g->grant->name, MASK_MIN_VALUE);
                g->value = malloc(value->len);
                if (!g->value)
                        return error_set(reterr, ENOMEM, "cannot hold grant '%s'", g->grant->name);
                memcpy(g->value, value->data, value->len);
                g->size = value->len;
                return 0;
        }
        return error_refuse(reterr, ENOENT, "send it with the task, or name a file",
                            "grant '%s' has no value", g->grant->name);
}

int grants_new(Shim *s, GrantValue *const *values, size_t n, Grants **ret_grants, Error **reterr) {
        Grants *g = calloc(1, sizeof *g + s->plan->n_grants * sizeof g->slots[0]);

        if (!g)
                return error_set(reterr, ENOMEM, "cannot hold the grants");
        for (; g->n < s->plan->n_grants; g->n++) {
                int r;

                g->slots[g->n] = (GrantSlot){.grant = s->plan->grants[g->n], .shim = s};
                r = grants_add(s, &g->slots[g->n], values, n, reterr);
                if (r < 0) {
                        grants_free(g);
                        return r;
                }
        }
        *ret_grants = g;
        return 0;
}

bool grants_leaked_in(const Shim *s, int fd, uint64_t offset, uint64_t size) {
        size_t overlap = mask_longest(s->mask);
        _cleanup_free_ char *window = NULL;
        uint64_t done = 0;
        size_t have = 0;

        if (overlap == 0)
                return false;
        window = malloc(overlap + 65536);
        if (!window)
                return true;
        while (done < size) {
                ssize_t n = pread(fd, window + have, MIN_OF(size - done, UINT64_C(65536)),
                                  (off_t)(offset + done));

                if (n <= 0)
                        return true; /* it is not as long as it was written */
                have += (size_t)n;
                done += (uint64_t)n;
                if (mask_contains(s->mask, window, have))
                        return true;
                /* A value may lie across two reads. */
                if (have > overlap) {
                        memmove(window, window + have - overlap, overlap);
                        have = overlap;
                }
        }
        return false;
}

Grants *grants_free(Grants *g) {
        if (!g)
                return NULL;
        for (size_t i = 0; i < g->n; i++) {
                sd_event_source_disable_unref(g->slots[i].timer);
                if (g->slots[i].value)
                        explicit_bzero(g->slots[i].value, g->slots[i].size);
                free(g->slots[i].value);
        }
        free(g);
        return NULL;
}
