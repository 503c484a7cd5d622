/*
 * carrel-guest: what a harness asks of its run, from inside
 *
 *      carrel-guest feedback [--all] [--json]
 *      carrel-guest artifact publish PATH [--name NAME] [--json]
 *      carrel-guest status [--report TEXT] [--json]
 *
 * A static program in any image. It has no rights of its own: it opens what it publishes as who it
 * is, and hands the descriptor over.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "proto/text/text.h"
#include "proto/wire/frame.h"

#define GUEST_SOCKET "/run/carrel/guest.sock"

typedef struct GuestOptions {
        bool json, all;
        const char *name, *report;
} GuestOptions;

static int guest_connect(Error **reterr) {
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = GUEST_SOCKET};
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r;

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
                r = error_set(reterr, errno, "cannot reach the run at '%s'", GUEST_SOCKET);
                return error_hint(reterr, r, "carrel-guest works only inside a carrel workspace");
        }
        return TAKE_FD(fd);
}

static int
guest_call(const GuestRequest *request, int fd, GuestResponse **ret_response, Error **reterr) {
        _cleanup_message_ GuestResponse *response = NULL;
        _cleanup_close_ int socket_fd = guest_connect(reterr);
        int r;

        if (socket_fd < 0)
                return socket_fd;
        r = frame_send(socket_fd, &request->base, &fd, fd >= 0 ? 1 : 0, reterr);
        if (r == 0)
                r = frame_receive(socket_fd, &carrel__v1__guest_response__descriptor,
                                  FRAME_MAX_SIZE, (void **)&response, NULL, 0, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "cannot talk to the run");
        if (response->error) {
                Error *error = error_from_message(response->error);

                r = -response->error->code;
                error_move(reterr, &error);
                return r;
        }
        *ret_response = TAKE_PTR(response);
        return 0;
}

static int guest_print_json(const Message *m, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r = text_print(m, TEXT_FORMAT_JSON_LINE, &text, reterr);

        if (r == 0)
                puts(text);
        return r;
}

static int guest_feedback(int argc, char **argv, const GuestOptions *o, Error **reterr) {
        Carrel__V1__GuestFeedbackRequest body = CARREL__V1__GUEST_FEEDBACK_REQUEST__INIT;
        GuestRequest request = CARREL__V1__GUEST_REQUEST__INIT;
        _cleanup_message_ GuestResponse *response = NULL;
        int r;

        body.all = o->all;
        request.body_case = CARREL__V1__GUEST_REQUEST__BODY_FEEDBACK;
        request.feedback = &body;
        r = guest_call(&request, -EBADF, &response, reterr);
        for (size_t i = 0; r == 0 && response->feedback && i < response->feedback->n_items; i++) {
                const Feedback *item = response->feedback->items[i];

                if (o->json)
                        r = guest_print_json(&item->base, reterr);
                else
                        printf("--- %s (attempt %u) ---\n%s\n", item->source, item->attempt,
                               item->text);
        }
        return r;
}

static int guest_artifact(int argc, char **argv, const GuestOptions *o, Error **reterr) {
        Carrel__V1__GuestArtifactRequest body = CARREL__V1__GUEST_ARTIFACT_REQUEST__INIT;
        GuestRequest request = CARREL__V1__GUEST_REQUEST__INIT;
        _cleanup_message_ GuestResponse *response = NULL;
        _cleanup_free_ char *name = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (argc != 2 || strcmp(argv[0], "publish") != 0)
                return error_refuse(reterr, EINVAL,
                                    "carrel-guest artifact publish PATH [--name NAME]",
                                    "publish which file?");
        fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return error_set(reterr, errno, "cannot open '%s'", argv[1]);
        name = strdup(o->name ?: basename(argv[1]));
        if (!name)
                return error_set(reterr, ENOMEM, "cannot publish '%s'", argv[1]);
        body.name = name;
        request.body_case = CARREL__V1__GUEST_REQUEST__BODY_ARTIFACT;
        request.artifact = &body;
        r = guest_call(&request, fd, &response, reterr);
        if (r < 0)
                return r;
        if (o->json)
                return guest_print_json(&response->artifact->base, reterr);
        printf("%s %s\n", response->artifact->digest, name);
        return 0;
}

static void guest_print_denied(const Carrel__V1__GuestStatus *status) {
        for (size_t i = 0; i < status->n_denied; i++) {
                const Carrel__V1__Denied *d = status->denied[i];

                printf("denied %llu times: %s(%s): %s; %s\n", (unsigned long long)d->count, d->call,
                       d->arguments, d->rule, d->hint);
        }
}

static int guest_status(int argc, char **argv, const GuestOptions *o, Error **reterr) {
        Carrel__V1__GuestStatusRequest body = CARREL__V1__GUEST_STATUS_REQUEST__INIT;
        GuestRequest request = CARREL__V1__GUEST_REQUEST__INIT;
        _cleanup_message_ GuestResponse *response = NULL;
        _cleanup_free_ char *report = strdup(o->report ?: ""), *remaining = NULL;
        int r;

        if (!report)
                return error_set(reterr, ENOMEM, "cannot ask for the status");
        body.report = report;
        request.body_case = CARREL__V1__GUEST_REQUEST__BODY_STATUS;
        request.status = &body;
        r = guest_call(&request, -EBADF, &response, reterr);
        if (r < 0)
                return r;
        if (o->json)
                return guest_print_json(&response->status->base, reterr);
        if (o->report)
                return 0;
        remaining = text_duration(response->status->remaining_us / USEC_PER_SEC * USEC_PER_SEC);
        printf("run %s (%s): attempt %u of %u, %s left\n", response->status->run,
               response->status->name, response->status->attempt, response->status->attempts,
               remaining ?: "?");
        guest_print_denied(response->status);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(int argc, char **argv, const GuestOptions *o, Error **reterr);
        const char *help;
} guest_commands[] = {
        {"feedback", guest_feedback,
         "feedback [--all]                      what checks and reviewers said"},
        {"artifact", guest_artifact,
         "artifact publish PATH [--name NAME]   keep a file in the run's record"},
        {"status", guest_status,
         "status [--report TEXT]                where the run stands; tell what you are doing"},
};

static void guest_help(FILE *to) {
        fputs("usage: carrel-guest [--json] COMMAND\n\n", to);
        for (size_t i = 0; i < ELEMENTSOF(guest_commands); i++)
                fprintf(to, "  %s\n", guest_commands[i].help);
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                {"json", no_argument, NULL, 'j'},       {"all", no_argument, NULL, 'a'},
                {"name", required_argument, NULL, 'n'}, {"report", required_argument, NULL, 'r'},
                {"help", no_argument, NULL, 'h'},       {0},
        };
        _cleanup_error_ Error *error = NULL;
        GuestOptions o = {0};
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
                switch (c) {
                case 'j':
                        o.json = true;
                        break;
                case 'a':
                        o.all = true;
                        break;
                case 'n':
                        o.name = optarg;
                        break;
                case 'r':
                        o.report = optarg;
                        break;
                case 'h':
                        guest_help(stdout);
                        return 0;
                default:
                        guest_help(stderr);
                        return 2;
                }
        }
        for (size_t i = 0; optind < argc && i < ELEMENTSOF(guest_commands); i++) {
                if (strcmp(guest_commands[i].name, argv[optind]) != 0)
                        continue;
                if (guest_commands[i].run(argc - optind - 1, argv + optind + 1, &o, &error) == 0)
                        return 0;
                error_print(stderr, "carrel-guest", error);
                return 1;
        }
        guest_help(stderr);
        return 2;
}
