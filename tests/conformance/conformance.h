/*
 * The conformance battery: does the wall hold, seen from inside?
 *
 * A check is an entry of a table: a name, a function, what it must be told about the host, and in
 * which profiles the opposite is right. Tables stand in a file a class; main.c runs each check in a
 * process of its own with a time limit, so that none can end the battery or spoil the next one.
 *
 * Invariants: a check proves something by trying it, with arguments that do no harm where it works:
 *             the battery is also run without any sandbox, as root, to see it fail. A check that
 *             could not tell (no program, no fact) is skipped with a reason, never counted as held.
 * Trust:      runs as the harness; nothing here is a wall. It shares no code with what it examines.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
#define KIB           (UINT64_C(1) << 10)
#define MIB           (UINT64_C(1) << 20)
#define GIB           (UINT64_C(1) << 30)

typedef enum Verdict {
        VERDICT_FAILED, /* also what is left when a check was killed */
        VERDICT_HELD,
        VERDICT_SKIPPED,
} Verdict;

/* What only the host's side can tell; given as options of the same name. */
typedef enum Fact {
        FACT_NONE,
        FACT_ABSTRACT,
        FACT_FILE,
        FACT_BOOT_ID,
        FACT_CMDLINE,
        FACT_PID,
        FACT_MARKER,
        FACT_HOSTNAME,
        FACT_NAMESPACES,
        N_FACTS,
} Fact;

/* In what the shipped profiles differ, as far as a check can see it. */
typedef enum Trait {
        TRAIT_NESTING = 1 << 0, /* user namespaces, and all that they allow inside */
        TRAIT_SMALL = 1 << 1,   /* system calls that few programs need are taken away */
        TRAIT_DEBUG = 1 << 2,   /* more than a debugger needs: kcmp, pidfd_getfd */
} Trait;

typedef struct Profile {
        const char *name;
        unsigned traits;
        uint64_t tmp_bytes, shm_bytes, disk_bytes;
        uint64_t pids, open_files;
} Profile;

typedef struct Check Check;
struct Check {
        const char *name;
        Verdict (*run)(const Check *c);
        unsigned except; /* in a profile with one of these traits the opposite is right, */
        Verdict (*instead)(const Check *c); /* or this is what is to be checked */
        unsigned only;                      /* where it makes sense at all; 0: everywhere */
        Fact needs;
        unsigned seconds; /* time limit; 0: CHECK_SECONDS */

        /* What the function is about, if it serves several checks. */
        const char *text;
        long number;
        long args[6];
};

#define CHECK_SECONDS 10

typedef struct Class {
        const char *name;
        const char *about;
        const Check *checks;
        size_t n;
} Class;

#define CLASS(name_, about_, table)                                                                \
        { (name_), (about_), (table), ELEMENTSOF(table) }

extern const Class class_calls, class_descriptors, class_devices, class_files, class_identity,
        class_ipc, class_namespaces, class_nesting, class_network, class_proc, class_processes,
        class_resources, class_runtime, class_sockets, class_terminal, class_works,
        class_works_files, class_tools;

/* As the battery was started; noted before anything is opened or changed. */
typedef struct Start {
        int open_fds[64];
        size_t n_open_fds;
        char blocked[32], ignored[32]; /* signals: the status file's words */
        mode_t umask;
        long soft_files;
} Start;

extern Start start;
extern const Profile *profile;
extern const char *facts[N_FACTS];
extern const char *scratch; /* a directory of the battery's own, in /tmp */

/* ---- verdicts: the last call of a check ---- */

/** verdict_expect() - held if @ok; else what was expected, and found */
Verdict verdict_expect(bool ok, const char *expected, const char *found, ...)
        __attribute__((format(printf, 3, 4)));

/** verdict_refused() - held if @r is negative and errno says "you may not" or "there is no such" */
Verdict verdict_refused(const char *what, long r);

/** verdict_denied() - as verdict_refused(), but whatever the reason: it just may not work */
Verdict verdict_denied(const char *what, long r);

/** verdict_worked() - held if @r is not negative */
Verdict verdict_worked(const char *what, long r);

Verdict verdict_skip(const char *why, ...) __attribute__((format(printf, 1, 2)));

/* ---- checks that are data ---- */

Verdict check_call(const Check *c);       /* system call @number with @args is refused */
Verdict check_no_call(const Check *c);    /* ... answers ENOSYS */
Verdict check_unwritable(const Check *c); /* file @text cannot be opened for writing */
Verdict check_unreadable(const Check *c); /* nothing can be read from file @text */
Verdict check_absent(const Check *c);     /* path @text does not exist */

#define REFUSED(name_, number_, ...)                                                               \
        {                                                                                          \
                .name = (name_), .run = check_call, .number = (number_), .args = { __VA_ARGS__ }   \
        }
#define ARG(pointer) ((long)(pointer))

/* ---- probes ---- */

bool errno_is_refusal(int code);
const char *errno_name(int code);

/** probe_read() - up to @size - 1 bytes of a file, with a NUL behind. Return: bytes, or -1. */
ssize_t probe_read(const char *path, char *buffer, size_t size);

/** probe_field() - a line "NAME:\tVALUE" of a file such as /proc/self/status */
bool probe_field(const char *path, const char *name, char *value, size_t size);

/** probe_numbers() - the decimal numbers that @text begins with. Return: how many, at most @max. */
size_t probe_numbers(const char *text, unsigned long *ret_numbers, size_t max);

/** probe_contains() - 1 if a line of the file contains @text, 0 if none does, -1: unreadable */
int probe_contains(const char *path, const char *text);

/** probe_path() - @name in the scratch directory; of four calls each result stands */
const char *probe_path(const char *name);

/** probe_make() - a file in the scratch directory; opened O_RDWR */
int probe_make(const char *name, const char *content, mode_t mode);

/** probe_sleeper() - a child that sleeps until it is killed. Return: pid. */
pid_t probe_sleeper(void);

/** probe_end() - kill and await a child. Return: its wait status. */
int probe_end(pid_t pid);

/** probe_await() - a child's exit status, or 128 + the signal that ended it */
int probe_await(pid_t pid);

/** probe_shell() - run a script in the scratch directory; @output gets the end of what it said */
int probe_shell(const char *script, char *output, size_t size);

/** probe_has() - is there a program of that name on PATH? */
bool probe_has(const char *program);

typedef struct Mount {
        char root[256], point[512], options[256], type[64], super[1024];
} Mount;

/** probe_mounts() - call @each for every line of mountinfo until it returns true. Return: the last
 * result. */
bool probe_mounts(bool (*each)(const Mount *m, void *data), void *data);
