#include "shim/denials.h"

#include <string.h>

typedef struct DenialKind {
        SyscallExplanation why;
        uint64_t waiting; /* since the last event about it */
        uint64_t all;
        uint64_t told_us;
        bool told;
} DenialKind;

struct Denials {
        DenialsEmit emit;
        void *data;
        DenialKind kinds[DENIALS_MAX_KINDS];
        size_t n_kinds;
        uint64_t lost;
        uint64_t second_us; /* when the present second began */
        unsigned n_second, n_run;
};

Denials *denials_new(DenialsEmit emit, void *data) {
        Denials *d = calloc(1, sizeof *d);

        if (d) {
                d->emit = emit;
                d->data = data;
        }
        return d;
}

Denials *denials_free(Denials *d) {
        free(d);
        return NULL;
}

static void denials_tell(Denials *d, DenialKind *kind) {
        SyscallExplanation why = kind->why;
        Carrel__V1__Denied denied = CARREL__V1__DENIED__INIT;
        Event event = CARREL__V1__EVENT__INIT;

        denied.call = why.call;
        denied.arguments = why.arguments;
        denied.rule = why.rule;
        denied.hint = why.hint;
        denied.count = kind->waiting;
        denied.lost = d->lost;
        kind->waiting = 0;
        kind->told = true;
        d->lost = 0;
        d->n_second++;
        d->n_run++;
        event.body_case = CARREL__V1__EVENT__BODY_DENIED;
        event.denied = &denied;
        d->emit(&event, d->data);
}

static bool denials_may_tell(Denials *d, const DenialKind *kind, uint64_t now_us) {
        if (now_us - d->second_us >= USEC_PER_SEC) {
                d->second_us = now_us;
                d->n_second = 0;
        }
        return kind->waiting > 0 && d->n_second < DENIALS_MAX_PER_SECOND &&
               d->n_run < DENIALS_MAX_PER_RUN &&
               (!kind->told || now_us - kind->told_us >= USEC_PER_SEC);
}

static void denials_try(Denials *d, DenialKind *kind, uint64_t now_us) {
        if (!denials_may_tell(d, kind, now_us))
                return;
        kind->told_us = now_us;
        denials_tell(d, kind);
}

/* A new kind takes the place of the one that was told longest ago, and of none that waits. */
static DenialKind *denials_place(Denials *d) {
        DenialKind *oldest = NULL;

        if (d->n_kinds < DENIALS_MAX_KINDS)
                return &d->kinds[d->n_kinds++];
        for (size_t i = 0; i < d->n_kinds; i++)
                if (d->kinds[i].waiting == 0 && (!oldest || d->kinds[i].told_us < oldest->told_us))
                        oldest = &d->kinds[i];
        return oldest;
}

static DenialKind *denials_find(Denials *d, const SyscallExplanation *why) {
        DenialKind *kind;

        for (size_t i = 0; i < d->n_kinds; i++)
                if (strcmp(d->kinds[i].why.call, why->call) == 0 &&
                    strcmp(d->kinds[i].why.arguments, why->arguments) == 0)
                        return &d->kinds[i];
        kind = denials_place(d);
        if (kind)
                *kind = (DenialKind){.why = *why};
        return kind;
}

static bool denials_wait(const Denials *d) {
        bool waiting = d->lost > 0;

        for (size_t i = 0; i < d->n_kinds; i++)
                waiting = waiting || d->kinds[i].waiting > 0;
        return waiting && d->n_run < DENIALS_MAX_PER_RUN;
}

bool denials_add(Denials *d, uint64_t now_us, const SyscallExplanation *why) {
        DenialKind *kind = denials_find(d, why);

        if (!kind) {
                d->lost++;
                return denials_wait(d);
        }
        kind->waiting++;
        kind->all++;
        denials_try(d, kind, now_us);
        return kind->waiting > 0;
}

void denials_each(const Denials *d,
                  void (*use)(const SyscallExplanation *why, uint64_t count, void *data),
                  void *data) {
        for (size_t i = 0; i < d->n_kinds; i++)
                use(&d->kinds[i].why, d->kinds[i].all, data);
}

bool denials_tick(Denials *d, uint64_t now_us) {
        for (size_t i = 0; i < d->n_kinds; i++)
                denials_try(d, &d->kinds[i], now_us);
        return denials_wait(d);
}

/* The last one has a place kept for it: it carries the sum of all that had none. */
void denials_flush(Denials *d) {
        DenialKind *last = NULL;

        for (size_t i = 0; i < d->n_kinds; i++) {
                DenialKind *kind = &d->kinds[i];

                if (kind->waiting > 0 && d->n_run < DENIALS_MAX_PER_RUN)
                        denials_tell(d, kind);
                else if (kind->waiting > 0 && (!last || kind->waiting > last->waiting))
                        last = kind;
        }
        for (size_t i = 0; i < d->n_kinds; i++)
                if (&d->kinds[i] != last)
                        d->lost += d->kinds[i].waiting;
        if (last || d->lost > 0)
                denials_tell(d, last ?: &d->kinds[0]);
        for (size_t i = 0; i < d->n_kinds; i++)
                d->kinds[i].waiting = 0;
}
