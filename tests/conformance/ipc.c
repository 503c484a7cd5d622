/*
 * Keyrings and System V: nothing of the host's, and no keys at all
 *
 * Keys belong to a user namespace only in part: CVE-2016-0728, CVE-2017-7472, CVE-2020-8835's
 * neighbours. Source: keyrings(7), sysvipc(7).
 */
#include <fcntl.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "conformance.h"

/* @text: a list below /proc/sysvipc; its first line names the columns. */
static Verdict ipc_is_empty(const Check *c) {
        char text[4096] = "";
        const char *second;

        (void)probe_read(c->text, text, sizeof text);
        second = strchr(text, '\n');
        return verdict_expect(!second || !second[1], "nothing of others", "%s",
                              second ? second + 1 : "");
}

/* What another process of the workspace made is there, what the host made is not: so it starts
 * with none. */
static Verdict ipc_first_segment(const Check *c) {
        int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600), r;

        if (id < 0)
                return verdict_denied("shmget", id);
        r = shmctl(id, IPC_RMID, NULL);
        return verdict_expect(r == 0 && (id & 0x7fff) < 2, "an empty list", "identifier %d", id);
}

static Verdict ipc_lock_segment(const Check *c) {
        int id = shmget(IPC_PRIVATE, 64 * MIB, IPC_CREAT | 0600), r;

        if (id < 0)
                return verdict_denied("shmget", id);
        r = shmctl(id, SHM_LOCK, NULL);
        (void)shmctl(id, IPC_RMID, NULL);
        return verdict_denied("SHM_LOCK", r);
}

static Verdict ipc_huge_segment(const Check *c) {
        int id = shmget(IPC_PRIVATE, 4 * MIB, IPC_CREAT | SHM_HUGETLB | 0600);

        if (id >= 0)
                (void)shmctl(id, IPC_RMID, NULL);
        return verdict_denied("SHM_HUGETLB", id);
}

#define KEYCTL(name_, operation, ...) REFUSED("keyctl_" name_, SYS_keyctl, operation, __VA_ARGS__)

static const Check checks[] = {
        REFUSED("add_key",
                SYS_add_key,
                ARG("user"),
                ARG("x"),
                ARG("y"),
                1,
                KEY_SPEC_PROCESS_KEYRING),
        REFUSED("request_key", SYS_request_key, ARG("user"), ARG("carrel-none"), 0, 0),
        KEYCTL("user_keyring", KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 0),
        KEYCTL("session_keyring", KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0),
        KEYCTL("join_session", KEYCTL_JOIN_SESSION_KEYRING, 0),
        KEYCTL("persistent", KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING),
        KEYCTL("read", KEYCTL_READ, KEY_SPEC_SESSION_KEYRING, 0, 0),
        KEYCTL("session_to_parent", KEYCTL_SESSION_TO_PARENT, 0),
        KEYCTL("capabilities", KEYCTL_CAPABILITIES, 0, 0),
        {"keys_of_others", check_unreadable, TRAIT_NESTING, ipc_is_empty, .text = "/proc/keys"},
        {"shared_memory_of_others", ipc_is_empty, .text = "/proc/sysvipc/shm"},
        {"semaphores_of_others", ipc_is_empty, .text = "/proc/sysvipc/sem"},
        {"queues_of_others", ipc_is_empty, .text = "/proc/sysvipc/msg"},
        {"first_segment", ipc_first_segment},
        {"lock_segment", ipc_lock_segment},
        {"huge_segment", ipc_huge_segment},
};

const Class class_ipc = CLASS("ipc", "keyrings and System V", checks);
