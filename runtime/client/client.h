/*
 * Client: one connection to a supervisor
 *
 * Model:   requests go out with fresh ids; replies come back in the server's order, several per id
 * where a list or a watch was asked for. client_call() is for one request with one reply and keeps
 *          what belongs to others; client_next() takes whatever comes next, for event loops.
 *          Where no supervisor listens and the caller is root, one is started for this connection
 * alone
 *          ("embedded"): `carreld --session FD`. It ends by itself when the connection is closed
 * and its runs are cleaned up; client_free() waits for that. Trust:   the supervisor is trusted
 * more than the client, but its frames are bounded all the same. Threads: none; one thread a
 * connection.
 */
#pragma once

#include <stdbool.h>

#include "proto/wire/frame.h"

#define CLIENT_PROTOCOL_VERSION 1
#define CLIENT_SOCKET_DEFAULT   "/run/carrel/control.sock"

typedef struct Client Client;

/* NULL means: the environment variable in brackets, else the default. */
typedef struct ClientOptions {
        const char *socket; /* [CARREL_SOCKET] where a supervisor listens */
        const char *
                state_dir; /* [CARREL_STATE_DIR] for an embedded supervisor; else its own default */
        const char
                *carreld; /* [CARREL_CARRELD] program of the embedded supervisor; else beside us */
        bool embedded;    /* [CARREL_EMBEDDED=1] do not even look for one that listens */
        const char *name; /* who we are, in Hello; never NULL */
} ClientOptions;

/* One response and the descriptors that came with it. */
typedef struct Reply {
        Response *response;
        int fds[FRAME_MAX_FDS];
        size_t n_fds;
} Reply;

void reply_done(Reply *r);

#define _cleanup_reply_ _cleanup_(reply_done)

/**
 * reply_check() - did the request succeed?
 *
 * Return: 0; else the peer's negative errno, with the peer's error in @reterr.
 */
int reply_check(const Reply *r, Error **reterr);

/** reply_take_fd() - descriptor @i of a reply, owned by the caller from now on; -EBADF where there
 * is none. */
int reply_take_fd(Reply *r, size_t i);

/**
 * client_connect() - to the supervisor that listens, or to one started for us
 *
 * Says Hello, but does not wait for the answer: the first reply taken checks it.
 * A socket that was named (in @o or in the environment) and cannot be reached is an error; only the
 * default one may be missing, and then root gets an embedded supervisor.
 *
 * Return: 0, or negative errno (-EPERM: no supervisor, and not root).
 */
int client_connect(const ClientOptions *o, Client **ret_client, Error **reterr);

/** client_new_fd() - a client on a connected socket; consumes @fd, also on failure. Says Hello. */
int client_new_fd(int fd, const char *name, Client **ret_client, Error **reterr);

/** client_is_embedded() - true where the supervisor lives for this connection only. */
bool client_is_embedded(const Client *c);

/** client_fd() - to be polled for POLLIN, when client_next() had nothing. */
int client_fd(const Client *c);

/**
 * client_send() - send a request
 * @request: its id is filled in
 * @fds:     borrowed
 * @ret_id:  may be NULL
 */
int client_send(Client *c,
                Request *request,
                const int *fds,
                size_t n_fds,
                uint64_t *ret_id,
                Error **reterr);

/**
 * client_next() - the next reply, whatever it answers
 * @wait: wait for one
 *
 * Return: 1 and a reply; 0 where none is there and @wait is false; -ECONNRESET when the supervisor
 * has gone; -EPROTO when it does not speak our protocol.
 */
int client_next(Client *c, bool wait, Reply *ret_reply, Error **reterr);

/** client_next_of() - wait for the next reply to request @id; others are kept for later. Return: 0,
 * -errno. */
int client_next_of(Client *c, uint64_t id, Reply *ret_reply, Error **reterr);

/** client_call() - client_send(), wait for the first reply to it, and reply_check() that.
 * @ret_reply may be NULL. */
int client_call(Client *c,
                Request *request,
                const int *fds,
                size_t n_fds,
                Reply *ret_reply,
                Error **reterr);

/** client_call_run() - a get request: the run that @name (id, start of an id, "last") stands for.
 */
int client_call_run(Client *c, const char *name, Run **ret_run, Error **reterr);

/**
 * client_free() - close the connection and wait for an embedded supervisor to end
 *
 * Accepts NULL. Return: NULL.
 */
Client *client_free(Client *c);

/** client_abandon() - as client_free(), but without waiting: for leaving in a hurry. */
Client *client_abandon(Client *c);

static inline void client_freep(Client **c) {
        *c = client_free(*c);
}

#define _cleanup_client_ _cleanup_(client_freep)
