#include "carrel/cli.h"

#include <errno.h>
#include <unistd.h>

#include "proto/text/text.h"

int cli_connect(const CliCommon *common, Client **ret_client, Error **reterr) {
        const ClientOptions options = {
                .socket = common->socket,
                .state_dir = common->state_dir,
                .embedded = common->no_daemon,
                .name = "carrel " CARREL_VERSION,
        };

        return client_connect(&options, ret_client, reterr);
}

int cli_flush(Error **reterr) {
        if (fflush(stdout) == EOF || ferror(stdout))
                return error_set(reterr, errno ?: EIO, "cannot write to standard output");
        return 0;
}

int cli_print_json(const Message *m, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = text_print(m, TEXT_FORMAT_JSON_LINE, &text, reterr);
        if (r < 0)
                return r;
        puts(text);
        return cli_flush(reterr);
}

int cli_each(Client *c,
             Request *request,
             int (*use)(Reply *reply, void *data, Error **reterr),
             void *data,
             Error **reterr) {
        uint64_t id;
        int r;

        r = client_send(c, request, NULL, 0, &id, reterr);
        while (r >= 0) {
                _cleanup_reply_ Reply reply = {};
                bool last;

                r = client_next_of(c, id, &reply, reterr);
                if (r < 0)
                        return r;
                r = reply_check(&reply, reterr);
                if (r < 0)
                        return r;
                last = reply.response->last;
                if (reply.response->body_case != CARREL__V1__RESPONSE__BODY_DONE)
                        r = use(&reply, data, reterr);
                if (last)
                        return r;
        }
        return r;
}

bool cli_is_terminal(FILE *f) {
        return isatty(fileno(f)) == 1;
}
