/* Shared by init's files; nobody else includes this. */
#pragma once

#include <stdbool.h>
#include <unistd.h>

#include "proto/messages.h"

#define INIT_CONTROL_FD    3
#define INIT_MAX_PROCESSES 64
#define INIT_MAX_FRAME     (1 * MIB)
#define INIT_STDIO         3                /* stdin, stdout, stderr */
#define INIT_MAX_FDS       (INIT_STDIO + 2) /* and a control group's */

/* One process that the shim asked for and that has not been reaped. */
typedef struct InitProcess {
        uint32_t number; /* 0: free slot */
        pid_t pid;
} InitProcess;

typedef struct Init {
        Carrel__V1__InitConfigure *config;
        InitProcess processes[INIT_MAX_PROCESSES];
        int root_fd; /* "/" */
} Init;

/** init_is_alone() - whether the user namespace has one id only: init's, which is the harness's. */
static inline bool init_is_alone(void) {
        return getuid() != 0;
}

/**
 * init_spawn() - start a process as the harness's user
 * @fds:          as they came with the request, -EBADF behind the last; borrowed
 * @ret_terminal: master of the new terminal, or -EBADF
 * @ret_listener: where the kernel tells of denied system calls, or -EBADF: it does not
 *
 * The child is confined (limits, ids, no capability, filter) before it executes anything; if a step
 * fails, nothing is executed and the error says which.
 */
int init_spawn(Init *in,
               const Carrel__V1__InitSpawn *request,
               const int fds[static INIT_MAX_FDS],
               pid_t *ret_pid,
               int *ret_terminal,
               int *ret_listener,
               Error **reterr);

/** init_confine_probe() - confine this process as a harness would be, for good. Return: 0, or
 * -errno and the step's name. */
int init_confine_probe(const Init *in, const char **ret_step);

/**
 * init_prove() - before anything runs: does the kernel hold what the plan promised?
 *
 * A child is confined as the harness will be and looks from inside.
 *
 * Return: 0; -EPROTO with what does not hold.
 */
int init_prove(const Init *in, Error **reterr);

/** init_open() - a regular file, with the harness's rights and inside the root. Return: descriptor,
 * -errno. */
int init_open(const Init *in, const char *path, Error **reterr);

/** init_set_credential() - put @value (or remove, when @size is 0) under $CREDENTIALS_DIRECTORY. */
int init_set_credential(
        const Init *in, const char *name, const void *value, size_t size, Error **reterr);
