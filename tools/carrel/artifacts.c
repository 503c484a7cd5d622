/* carrel artifacts: list a run's artifacts, or fetch one. */
#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>

#include "base/fd.h"
#include "carrel/artifact.h"
#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/render.h"

typedef struct ArtifactsValues {
        CliCommon common;
        const char *output;
        bool json;
} ArtifactsValues;

static const Option artifacts_options[] = {
        CLI_OPTION(ArtifactsValues,
                   output,
                   'o',
                   OPTION_STRING,
                   "output",
                   "FILE",
                   "write the artifact there, not to standard output"),
        CLI_OPTION(ArtifactsValues, json, 0, OPTION_FLAG, "json", NULL, "a JSON document a line"),
};

int artifact_open(Client *c, const char *run, const char *name, Error **reterr) {
        Carrel__V1__ArtifactRequest get = CARREL__V1__ARTIFACT_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        _cleanup_reply_ Reply reply = {};
        int fd, r;

        get.run = cli_borrow(run);
        get.name = cli_borrow(name);
        request.body_case = CARREL__V1__REQUEST__BODY_ARTIFACT;
        request.artifact = &get;
        r = client_call(c, &request, NULL, 0, &reply, reterr);
        if (r < 0)
                return r;
        fd = reply_take_fd(&reply, 0);
        return fd >= 0 ? fd
                       : error_refuse(reterr, EPROTO, NULL,
                                      "the supervisor sent no descriptor for '%s'", name);
}

int artifact_copy(int from, int to, Error **reterr) {
        char buffer[64 * KIB];

        for (;;) {
                ssize_t n = sendfile(to, from, NULL, 16 * MIB);
                int r;

                if (n > 0 || (n < 0 && errno == EINTR))
                        continue;
                if (n == 0)
                        return 0;
                if (errno != EINVAL && errno != ENOSYS)
                        return error_set(reterr, errno, "cannot copy the artifact");
                n = fd_read_all(from, buffer, sizeof buffer); /* the target takes no sendfile(2) */
                if (n <= 0)
                        return n < 0 ? error_set(reterr, (int)-n, "cannot read the artifact") : 0;
                r = fd_write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return error_set(reterr, -r, "cannot write the artifact");
        }
}

static int artifacts_use(Reply *reply, void *data, Error **reterr) {
        const ArtifactsValues *v = data;
        const Artifact *a = reply->response->artifact;

        if (reply->response->body_case != CARREL__V1__RESPONSE__BODY_ARTIFACT)
                return 0;
        if (v->json)
                return cli_print_json(&a->base, reterr);
        fputs(a->digest, stdout);
        fputs("  ", stdout);
        render_size(stdout, a->size_bytes);
        fputs("  ", stdout);
        escape_word(stdout, a->name);
        fputc('\n', stdout);
        return 0;
}

static int artifacts_list(Client *c, const ArtifactsValues *values, char *run, Error **reterr) {
        Carrel__V1__ArtifactsRequest list = CARREL__V1__ARTIFACTS_REQUEST__INIT;
        Request request = CARREL__V1__REQUEST__INIT;
        ArtifactsValues v = *values;
        int r;

        list.run = run;
        request.body_case = CARREL__V1__REQUEST__BODY_ARTIFACTS;
        request.artifacts = &list;
        r = cli_each(c, &request, artifacts_use, &v, reterr);
        return r < 0 ? r : cli_flush(reterr);
}

static int
artifacts_fetch(Client *c, const char *output, const char *run, const char *name, Error **reterr) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;

        from = artifact_open(c, run, name, reterr);
        if (from < 0)
                return from;
        if (!output)
                return artifact_copy(from, STDOUT_FILENO, reterr);
        to = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (to < 0)
                return error_set(reterr, errno, "cannot create '%s'", output);
        return artifact_copy(from, to, reterr);
}

static int artifacts_run(const void *values, const Operands *operands, Error **reterr) {
        const ArtifactsValues *v = values;
        _cleanup_client_ Client *c = NULL;
        int r;

        r = cli_connect(&v->common, &c, reterr);
        if (r < 0)
                return r;
        if (operands->n == 1)
                return artifacts_list(c, v, operands->items[0], reterr);
        return artifacts_fetch(c, v->output, operands->items[0], operands->items[1], reterr);
}

const Command command_artifacts = {
        .name = "artifacts",
        .synopsis = "[--json] RUN\n[-o FILE] RUN NAME|DIGEST",
        .summary = "List what a run published, or fetch one of it",
        .details = CLI_RUN_HINT ".",
        .options = {artifacts_options, ELEMENTSOF(artifacts_options)},
        .values_size = sizeof(ArtifactsValues),
        .min_operands = 1,
        .max_operands = 2,
        .run = artifacts_run,
};
