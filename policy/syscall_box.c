#include "policy/syscall_box.h"

#include <errno.h>

/* Hostile masks could ask for 2^192 boxes; 32 denied values of one argument need about 1,000. */
#define SYSCALL_BOX_STEPS 20000u

typedef struct Subtraction {
        const SyscallBox *others;
        size_t n_others;
        void (*use)(const SyscallBox *left, void *data);
        void *data;
        unsigned steps;
} Subtraction;

bool syscall_box_has(const SyscallBox *box, const uint64_t args[static SYSCALL_ARGS]) {
        for (unsigned i = 0; i < SYSCALL_ARGS; i++)
                if (((uint32_t)args[i] & box->mask[i]) != box->value[i])
                        return false;
        return true;
}

bool syscall_box_contains(const SyscallBox *outer, const SyscallBox *inner) {
        for (unsigned i = 0; i < SYSCALL_ARGS; i++)
                if ((outer->mask[i] & ~inner->mask[i]) ||
                    (inner->value[i] & outer->mask[i]) != outer->value[i])
                        return false;
        return true;
}

bool syscall_box_meets(const SyscallBox *a, const SyscallBox *b) {
        for (unsigned i = 0; i < SYSCALL_ARGS; i++)
                if ((a->value[i] ^ b->value[i]) & a->mask[i] & b->mask[i])
                        return false;
        return true;
}

/* The highest bit of an argument that @other fixes and @box leaves open. They meet, and @other does
 * not contain @box, so there is one. */
static uint32_t box_open_bit(const SyscallBox *box, const SyscallBox *other, unsigned *ret_arg) {
        for (unsigned i = 0; i < SYSCALL_ARGS; i++) {
                uint32_t open = other->mask[i] & ~box->mask[i];

                if (!open)
                        continue;
                *ret_arg = i;
                return UINT32_C(1) << (31 - __builtin_clz(open));
        }
        return 0;
}

/* Halves the box until each part is inside of one of the others, or meets none. At most 192 deep:
 * each step fixes a bit. */
static int box_subtract(Subtraction *s, const SyscallBox *box) {
        const SyscallBox *other = NULL;
        SyscallBox half = *box;
        unsigned arg = 0;
        uint32_t bit;
        int low, high;

        if (++s->steps > SYSCALL_BOX_STEPS)
                return -E2BIG;
        for (size_t i = 0; i < s->n_others; i++) {
                if (syscall_box_contains(&s->others[i], box))
                        return 0;
                if (!other && syscall_box_meets(&s->others[i], box))
                        other = &s->others[i];
        }
        if (!other) {
                if (s->use)
                        s->use(box, s->data);
                return 1;
        }
        bit = box_open_bit(box, other, &arg);
        half.mask[arg] |= bit;
        low = box_subtract(s, &half);
        half.value[arg] |= bit;
        high = low < 0 ? low : box_subtract(s, &half);
        return high < 0 ? high : low | high;
}

int syscall_box_subtract(const SyscallBox *box,
                         const SyscallBox *others,
                         size_t n_others,
                         void (*use)(const SyscallBox *left, void *data),
                         void *data) {
        Subtraction s = {.others = others, .n_others = n_others, .use = use, .data = data};

        return box_subtract(&s, box);
}
