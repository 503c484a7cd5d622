/* A classic BPF interpreter, as far as seccomp filters go: what would the kernel answer? */
#pragma once

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
// clang-format off
#include <cmocka.h>
// clang-format on

static inline uint32_t bpf_load(const struct seccomp_data *data, uint32_t offset) {
        uint32_t word;

        assert_true(offset % 4 == 0 && offset < sizeof *data);
        memcpy(&word, (const char *)data + offset, sizeof word);
        return word;
}

static inline int bpf_holds(uint16_t op, uint32_t a, uint32_t k) {
        switch (op) {
        case BPF_JA:
                return 1;
        case BPF_JEQ:
                return a == k;
        case BPF_JGT:
                return a > k;
        case BPF_JGE:
                return a >= k;
        case BPF_JSET:
                return (a & k) != 0;
        default:
                fail_msg("unknown jump %#x", op);
                return 0;
        }
}

/* Every jump is forward, as the kernel demands, so this ends. */
static inline uint32_t
bpf_run(const struct sock_filter *code, size_t n, const struct seccomp_data *data) {
        uint32_t a = 0;

        for (size_t pc = 0; pc < n; pc++) {
                const struct sock_filter *i = &code[pc];

                switch (BPF_CLASS(i->code)) {
                case BPF_LD:
                        assert_int_equal(i->code, BPF_LD | BPF_W | BPF_ABS);
                        a = bpf_load(data, i->k);
                        break;
                case BPF_ALU:
                        assert_int_equal(i->code, BPF_ALU | BPF_AND | BPF_K);
                        a &= i->k;
                        break;
                case BPF_JMP:
                        if (BPF_OP(i->code) == BPF_JA)
                                pc += i->k;
                        else
                                pc += bpf_holds(BPF_OP(i->code), a, i->k) ? i->jt : i->jf;
                        break;
                case BPF_RET:
                        return i->k;
                default:
                        fail_msg("unknown instruction %#x", i->code);
                }
        }
        fail_msg("the filter runs off its end");
        return 0;
}
