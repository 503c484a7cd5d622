#include "carrel/trees.h"

#include <errno.h>

#include "base/fd.h"
#include "carrel/cli.h"

int trees_open(Client *c, const char *run, Trees *ret_trees, Error **reterr) {
        Carrel__V1__ChangesRequest get = CARREL__V1__CHANGES_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        const Carrel__V1__ChangesResponse *changes;
        _cleanup_reply_ Reply reply = {};
        int r;

        get.run = cli_borrow(run);
        request.body_case = CARREL__V1__REQUEST__BODY_CHANGES;
        request.changes = &get;
        r = client_call(c, &request, NULL, 0, &reply, reterr);
        if (r < 0)
                return r;
        if (reply.response->body_case != CARREL__V1__RESPONSE__BODY_CHANGES || reply.n_fds != 2)
                return error_refuse(reterr, EPROTO, NULL,
                                    "the supervisor did not send the two trees of run '%s'", run);
        ret_trees->response = TAKE_PTR(reply.response);
        changes = ret_trees->response->changes;
        ret_trees->source = changes->source;
        ret_trees->started_unix_us = changes->started_unix_us;
        ret_trees->protected = (PatternSet){changes->protect, changes->n_protect, changes->approve,
                                            changes->n_approve};
        ret_trees->lower_fd = reply_take_fd(&reply, 0);
        ret_trees->upper_fd = reply_take_fd(&reply, 1);
        return 0;
}

void trees_done(Trees *t) {
        t->lower_fd = fd_close(t->lower_fd);
        t->upper_fd = fd_close(t->upper_fd);
        message_free(t->response);
        *t = (Trees){.lower_fd = -EBADF, .upper_fd = -EBADF};
}
