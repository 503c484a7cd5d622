/*
 * What a workspace sees differently of the kernel's own file systems
 *
 * Nothing of /proc or /sys can be written from inside in any case: their files belong to the host's
 * root, which is no id of a workspace. Masks are the second wall, and they take away what anybody
 * may read there of the host: how its kernel was started, its devices, its drivers, what its other
 * tenants make it do.
 *
 * With nesting there are none over /proc: the kernel lets an inner sandbox have a /proc of its own
 * only where all of the outer one is to be seen (mount_too_revealing() in fs/namespace.c).
 *
 * Invariant:  a path that holds another one stands before it.
 * Source:     proc(5), Documentation/filesystems/proc.rst; the lists of runc and crun were looked
 * at.
 */
#include "policy/concerns.h"

#define HIDE      CARREL__V1__MASK_KIND__MASK_KIND_HIDE
#define READ_ONLY CARREL__V1__MASK_KIND__MASK_KIND_READ_ONLY
#define UUID      CARREL__V1__MASK_KIND__MASK_KIND_UUID

typedef struct MaskRule {
        Carrel__V1__MaskKind kind;
        const char *path;
} MaskRule;

static const MaskRule masks_proc[] = {
        {READ_ONLY, "/proc/sys"},
        {UUID, "/proc/sys/kernel/random/boot_id"},
        /* how the kernel was started */
        {HIDE, "/proc/cmdline"},
        {HIDE, "/proc/bootconfig"},
        /* hardware, drivers and their state */
        {HIDE, "/proc/acpi"},
        {HIDE, "/proc/asound"},
        {HIDE, "/proc/bus"},
        {HIDE, "/proc/diskstats"},
        {HIDE, "/proc/driver"},
        {HIDE, "/proc/fs"},
        {HIDE, "/proc/interrupts"},
        {HIDE, "/proc/irq"},
        {HIDE, "/proc/partitions"},
        {HIDE, "/proc/scsi"},
        {HIDE, "/proc/softirqs"},
        /* the kernel's inside */
        {HIDE, "/proc/kallsyms"},
        {HIDE, "/proc/kcore"},
        {HIDE, "/proc/kmsg"},
        {HIDE, "/proc/latency_stats"},
        {HIDE, "/proc/locks"},
        {HIDE, "/proc/modules"},
        {HIDE, "/proc/sched_debug"},
        {HIDE, "/proc/schedstat"},
        {HIDE, "/proc/sysrq-trigger"},
        {HIDE, "/proc/timer_list"},
        /* keys of whoever shares the id */
        {HIDE, "/proc/key-users"},
        {HIDE, "/proc/keys"},
};

static const MaskRule masks_sys[] = {
        {HIDE, "/sys/firmware"},
        {HIDE, "/sys/fs"},
        {HIDE, "/sys/hypervisor"},
        {HIDE, "/sys/kernel"},
        {HIDE, "/sys/module"},
        {HIDE, "/sys/power"},
        {HIDE, "/sys/dev/block"},
        {HIDE, "/sys/block"},
        {HIDE, "/sys/class/block"},
        {HIDE, "/sys/class/dmi"},
        {HIDE, "/sys/devices/virtual/dmi"},
};

static int masks_add(Plan *plan, const MaskRule *rules, size_t n) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_message_ PlanMask *mask = message_new(&carrel__v1__plan_mask__descriptor);

                if (!mask || message_set_string(&mask->path, rules[i].path) < 0)
                        return -ENOMEM;
                mask->kind = rules[i].kind;
                if (message_append(&plan->masks, &plan->n_masks, mask) < 0)
                        return -ENOMEM;
                mask = NULL;
        }
        return 0;
}

int masks_compile(Plan *plan, const Policy *policy, Error **reterr) {
        int r = 0;

        if (policy->nesting != CARREL__V1__CHOICE__CHOICE_YES)
                r = masks_add(plan, masks_proc, ELEMENTSOF(masks_proc));
        if (r == 0 && policy->filesystem->sys == CARREL__V1__CHOICE__CHOICE_YES)
                r = masks_add(plan, masks_sys, ELEMENTSOF(masks_sys));
        return r < 0 ? concern_no_memory(reterr) : 0;
}
