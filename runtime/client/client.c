#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "client/embed.h"

/* Replies that wait for their reader while client_call() waits for another one. A watch of a long
 * run is the only source of many; past this the caller forgot to read. */
#define CLIENT_MAX_QUEUE 65536

typedef struct ClientQueued {
        struct ClientQueued *next;
        Reply reply;
} ClientQueued;

struct Client {
        int fd;
        pid_t embedded; /* our own carreld, or 0 */
        uint64_t last_id;
        uint64_t hello_id; /* not answered yet, or 0 */
        FrameReader reader;
        ClientQueued *first, **end;
        size_t n_queued;
};

void reply_done(Reply *r) {
        message_free(r->response);
        r->response = NULL;
        fd_close_many(r->fds, r->n_fds);
        r->n_fds = 0;
}

int reply_check(const Reply *r, Error **reterr) {
        const ErrorMessage *m = r->response->error;
        Error *e;
        int code;

        if (!m)
                return 0;
        code = m->code > 0 ? m->code : EIO;
        e = error_from_message(m);
        error_move(reterr, &e);
        return -code;
}

int reply_take_fd(Reply *r, size_t i) {
        return i < r->n_fds ? TAKE_FD(r->fds[i]) : -EBADF;
}

static int client_wait(Client *c, short events, Error **reterr) {
        struct pollfd p = {.fd = c->fd, .events = events};

        for (;;) {
                if (poll(&p, 1, -1) >= 0)
                        return 0;
                if (errno != EINTR)
                        return error_set(reterr, errno, "cannot wait for the supervisor");
        }
}

static int client_lost(const Client *c, Error **reterr) {
        siginfo_t info;

        /* One of our own that cannot start says so on standard error, which is ours as well. */
        if (c->embedded && waitid(P_PID, (id_t)c->embedded, &info, WEXITED | WNOWAIT) == 0 &&
            info.si_code == CLD_EXITED && info.si_status != 0)
                return error_refuse(reterr, ECONNRESET, "the reason stands above",
                                    "the supervisor for this command could not start");
        return error_refuse(
                reterr, ECONNRESET,
                "the run, if there was one, may go on: see `carrel ps`, and the supervisor's log",
                "the supervisor closed the connection");
}

int client_send(Client *c,
                Request *request,
                const int *fds,
                size_t n_fds,
                uint64_t *ret_id,
                Error **reterr) {
        _cleanup_free_ uint8_t *data = NULL;
        size_t size, sent = 0;
        int r;

        request->id = ++c->last_id;
        r = frame_encode(&request->base, n_fds, &data, &size);
        if (r < 0)
                return error_set(reterr, -r, "cannot encode a request");

        while (sent < size) {
                ssize_t n = frame_send_data(c->fd, data + sent, size - sent, fds, sent ? 0 : n_fds);

                if (n >= 0)
                        sent += (size_t)n;
                else if (n == -EAGAIN)
                        r = client_wait(c, POLLOUT, reterr);
                else if (n == -EPIPE || n == -ECONNRESET)
                        r = client_lost(c, reterr);
                else if (n != -EINTR)
                        r = error_set(reterr, (int)-n, "cannot send to the supervisor");
                if (r < 0)
                        return r;
        }
        if (ret_id)
                *ret_id = request->id;
        return 0;
}

static int client_say_hello(Client *c, const char *name, Error **reterr) {
        Carrel__V1__HelloRequest hello = CARREL__V1__HELLO_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;

        hello.version = CLIENT_PROTOCOL_VERSION;
        hello.client = (char *)(uintptr_t)name;
        request.body_case = CARREL__V1__REQUEST__BODY_HELLO;
        request.hello = &hello;
        return client_send(c, &request, NULL, 0, &c->hello_id, reterr);
}

static int client_check_hello(Client *c, const Reply *r, Error **reterr) {
        const Response *m = r->response;
        int q;

        c->hello_id = 0;
        q = reply_check(r, reterr);
        if (q < 0)
                return error_wrap(reterr, q, "the supervisor refused us");
        if (m->body_case != CARREL__V1__RESPONSE__BODY_HELLO)
                return error_refuse(reterr, EPROTO, NULL, "the supervisor did not answer Hello");
        if (m->hello->version != CLIENT_PROTOCOL_VERSION)
                return error_refuse(reterr, EPROTO, "use the carrel that came with that supervisor",
                                    "the supervisor '%s' speaks protocol version %u, not %u",
                                    m->hello->server, m->hello->version, CLIENT_PROTOCOL_VERSION);
        return 0;
}

/* One frame off the socket. Return: 1, 0 (none there), -errno. */
static int client_read(Client *c, bool wait, Reply *ret_reply, Error **reterr) {
        Frame frame = {};
        _cleanup_error_ Error *e = NULL;
        void *m;
        int r;

        for (;;) {
                r = frame_reader_read(&c->reader, c->fd, &frame, &e);
                if (r > 0)
                        break;
                if (r == 0 || r == -ECONNRESET)
                        return client_lost(c, reterr);
                if (r != -EAGAIN) {
                        error_move(reterr, &e);
                        return error_wrap(reterr, r, "cannot read from the supervisor");
                }
                if (!wait)
                        return 0;
                r = client_wait(c, POLLIN, reterr);
                if (r < 0)
                        return r;
        }

        r = message_unpack(&carrel__v1__response__descriptor, frame.data, frame.size, &m);
        if (r < 0) {
                frame_done(&frame);
                return error_set(reterr, -r, "cannot decode what the supervisor sent");
        }
        *ret_reply = (Reply){.response = m, .n_fds = frame.n_fds};
        memcpy(ret_reply->fds, frame.fds, sizeof frame.fds);
        frame.n_fds = 0;
        frame_done(&frame);
        return 1;
}

/* client_read(), but the answer to Hello is taken out. */
static int client_read_reply(Client *c, bool wait, Reply *ret_reply, Error **reterr) {
        for (;;) {
                Reply reply;
                int r;

                r = client_read(c, wait, &reply, reterr);
                if (r <= 0)
                        return r;
                if (c->hello_id == 0) {
                        *ret_reply = reply;
                        return 1;
                }
                r = client_check_hello(c, &reply, reterr);
                reply_done(&reply);
                if (r < 0)
                        return r;
        }
}

static int client_queue(Client *c, Reply *reply, Error **reterr) {
        ClientQueued *q;

        if (c->n_queued >= CLIENT_MAX_QUEUE)
                return error_refuse(reterr, ENOBUFS, NULL, "more than %d replies wait to be read",
                                    CLIENT_MAX_QUEUE);
        q = calloc(1, sizeof *q);
        if (!q)
                return error_set(reterr, ENOMEM, "cannot keep a reply");
        q->reply = *reply;
        *c->end = q;
        c->end = &q->next;
        c->n_queued++;
        return 0;
}

/* Take the first queued reply to @id (0: to anything). */
static bool client_unqueue(Client *c, uint64_t id, Reply *ret_reply) {
        for (ClientQueued **p = &c->first; *p; p = &(*p)->next) {
                ClientQueued *q = *p;

                if (id != 0 && q->reply.response->id != id)
                        continue;
                *p = q->next;
                if (!q->next)
                        c->end = p;
                c->n_queued--;
                *ret_reply = q->reply;
                free(q);
                return true;
        }
        return false;
}

int client_next(Client *c, bool wait, Reply *ret_reply, Error **reterr) {
        if (client_unqueue(c, 0, ret_reply))
                return 1;
        return client_read_reply(c, wait, ret_reply, reterr);
}

int client_next_of(Client *c, uint64_t id, Reply *ret_reply, Error **reterr) {
        if (client_unqueue(c, id, ret_reply))
                return 0;
        for (;;) {
                Reply reply;
                int r;

                r = client_read_reply(c, true, &reply, reterr);
                if (r < 0)
                        return r;
                if (reply.response->id == id) {
                        *ret_reply = reply;
                        return 0;
                }
                r = client_queue(c, &reply, reterr);
                if (r < 0) {
                        reply_done(&reply);
                        return r;
                }
        }
}

int client_call(Client *c,
                Request *request,
                const int *fds,
                size_t n_fds,
                Reply *ret_reply,
                Error **reterr) {
        Reply reply;
        uint64_t id;
        int r;

        r = client_send(c, request, fds, n_fds, &id, reterr);
        if (r < 0)
                return r;
        r = client_next_of(c, id, &reply, reterr);
        if (r < 0)
                return r;
        r = reply_check(&reply, reterr);
        if (r < 0 || !ret_reply)
                reply_done(&reply);
        else
                *ret_reply = reply;
        return r;
}

int client_call_run(Client *c, const char *name, Run **ret_run, Error **reterr) {
        Carrel__V1__GetRequest get = CARREL__V1__GET_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_reply_ Reply reply = {};
        int r;

        get.run = (char *)(uintptr_t)name;
        request.body_case = CARREL__V1__REQUEST__BODY_GET;
        request.get = &get;
        r = client_call(c, &request, NULL, 0, &reply, reterr);
        if (r < 0)
                return r;
        if (reply.response->body_case != CARREL__V1__RESPONSE__BODY_RUN)
                return error_refuse(reterr, EPROTO, NULL,
                                    "the supervisor answered with something else than a run");
        *ret_run = TAKE_PTR(reply.response->run);
        return 0;
}

static Client *client_destroy(Client *c) {
        Reply reply;

        while (client_unqueue(c, 0, &reply))
                reply_done(&reply);
        frame_reader_done(&c->reader);
        fd_close(c->fd);
        free(c);
        return NULL;
}

int client_new_fd(int fd, const char *name, Client **ret_client, Error **reterr) {
        Client *c;
        int r;

        r = fd_set_nonblocking(fd, 1);
        c = calloc(1, sizeof *c);
        if (r < 0 || !c) {
                free(c);
                fd_close(fd);
                return error_set(reterr, r < 0 ? -r : ENOMEM, "cannot use the supervisor's socket");
        }
        c->fd = fd;
        c->end = &c->first;
        frame_reader_init(&c->reader, FRAME_MAX_SIZE, FRAME_MAX_FDS);
        r = client_say_hello(c, name, reterr);
        if (r < 0) {
                client_destroy(c);
                return r;
        }
        *ret_client = c;
        return 0;
}

/* Return: a connected socket, or -errno. */
static int client_dial(const char *path, Error **reterr) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (strlen(path) >= sizeof address.sun_path)
                return error_refuse(reterr, ENAMETOOLONG,
                                    "a socket's path has at most 107 bytes (unix(7))",
                                    "cannot connect to '%s': its path is too long", path);
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return error_set(reterr, errno, "cannot make a socket");
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
                return TAKE_FD(fd);
        r = -errno;
        error_set(reterr, -r, "cannot connect to the supervisor at '%s'", path);
        if (r == -EACCES || r == -EPERM)
                return error_hint(reterr, r, "run as root, or ask to be let in to that socket");
        return error_hint(reterr, r, "start carreld there, or unset CARREL_SOCKET");
}

static int client_embed(const ClientOptions *o, Client **ret_client, Error **reterr) {
        _cleanup_free_ char *carreld = NULL;
        pid_t pid;
        int fd, r;

        r = embed_find_carreld(o->carreld, &carreld, reterr);
        if (r < 0)
                return r;
        r = embed_start(carreld, o->state_dir, &fd, &pid, reterr);
        if (r < 0)
                return r;
        r = client_new_fd(fd, o->name, ret_client, reterr);
        if (r < 0) {
                waitpid(pid, NULL, 0); /* its socket is closed: it ends */
                return r;
        }
        (*ret_client)->embedded = pid;
        return 0;
}

static bool client_wants_embedded(const ClientOptions *o) {
        const char *e = getenv("CARREL_EMBEDDED");

        return o->embedded || (e && strcmp(e, "1") == 0);
}

int client_connect(const ClientOptions *o, Client **ret_client, Error **reterr) {
        const char *path = o->socket ?: getenv("CARREL_SOCKET");
        _cleanup_error_ Error *e = NULL;
        bool named = path && *path;
        int fd;

        if (client_wants_embedded(o))
                return client_embed(o, ret_client, reterr);

        fd = client_dial(named ? path : CLIENT_SOCKET_DEFAULT, &e);
        if (fd >= 0)
                return client_new_fd(fd, o->name, ret_client, reterr);
        /* Root's is not for users (EACCES): theirs is a supervisor of their own. */
        if (named || (fd != -ENOENT && fd != -ECONNREFUSED && fd != -EACCES)) {
                error_move(reterr, &e);
                return fd;
        }
        return client_embed(o, ret_client, reterr);
}

bool client_is_embedded(const Client *c) {
        return c->embedded != 0;
}

int client_fd(const Client *c) {
        return c->fd;
}

Client *client_free(Client *c) {
        pid_t embedded;

        if (!c)
                return NULL;
        embedded = c->embedded;
        client_destroy(c);
        if (embedded)
                while (waitpid(embedded, NULL, 0) < 0 && errno == EINTR)
                        ;
        return NULL;
}

Client *client_abandon(Client *c) {
        return c ? client_destroy(c) : NULL;
}
