/* carrel doctor: what this host can enforce, and what to do about the rest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "carrel/cli.h"
#include "carrel/escape.h"
#include "carrel/self_test.h"
#include "carrel/status.h"
#include "host/host.h"

#define DOCTOR_STATE_DIR "/var/lib/carrel"

typedef struct DoctorValues {
        CliCommon common;
        const char *profile;
        bool json, self_test;
} DoctorValues;

static const Option doctor_options[] = {
        CLI_OPTION(DoctorValues, json, 0, OPTION_FLAG, "json", NULL, "JSON instead of lines"),
        CLI_OPTION(DoctorValues,
                   self_test,
                   0,
                   OPTION_FLAG,
                   "self-test",
                   NULL,
                   "instead, try from inside whether a workspace's walls hold"),
        CLI_OPTION(DoctorValues,
                   profile,
                   0,
                   OPTION_STRING,
                   "profile",
                   "NAME",
                   "try this shipped profile alone"),
};

/* What is not there and not needed is worth another word than what is not there and needed. */
static const char *doctor_word(const HostFinding *f) {
        switch (f->state) {
        case CARREL__V1__HOST_STATE__HOST_STATE_OK:
                return f->need == CARREL__V1__HOST_NEED__HOST_NEED_INFORMATION ? "-" : "ok";
        case CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED:
                return f->need == CARREL__V1__HOST_NEED__HOST_NEED_INFORMATION ? "note"
                                                                               : "degraded";
        default:
                return "missing";
        }
}

static void doctor_line(const char *label, const char *text) {
        if (!*text)
                return;
        printf("            %-8s ", label);
        escape_word(stdout, text);
        fputc('\n', stdout);
}

static void doctor_print_finding(const HostFinding *f) {
        bool ok = f->state == CARREL__V1__HOST_STATE__HOST_STATE_OK;

        printf("  %-8s  %-20s ", doctor_word(f), f->name);
        escape_word(stdout, ok ? f->found : f->purpose);
        fputc('\n', stdout);
        if (ok)
                return;
        doctor_line("found", f->found);
        doctor_line("so", f->consequence);
        doctor_line("remedy", f->remedy);
}

static size_t
doctor_count(const HostReport *report, Carrel__V1__HostNeed need, Carrel__V1__HostState state) {
        size_t n = 0;

        for (size_t i = 0; i < report->n_findings; i++)
                n += report->findings[i]->need == need && report->findings[i]->state == state;
        return n;
}

static void doctor_print(const HostReport *report) {
        const char *group = "";

        printf("%s, state directory '%s'\n", report->system, report->state_directory);
        for (size_t i = 0; i < report->n_findings; i++) {
                const HostFinding *f = report->findings[i];

                if (strcmp(f->group, group) != 0)
                        printf("\n%s\n", f->group);
                group = f->group;
                doctor_print_finding(f);
        }
        printf("\n%s: %zu required missing, %zu optional missing, %zu degraded\n",
               report->enforceable ? "The default policy can be enforced on this host"
                                   : "The default policy can NOT be enforced on this host",
               doctor_count(report, CARREL__V1__HOST_NEED__HOST_NEED_REQUIRED,
                            CARREL__V1__HOST_STATE__HOST_STATE_MISSING),
               doctor_count(report, CARREL__V1__HOST_NEED__HOST_NEED_OPTIONAL,
                            CARREL__V1__HOST_STATE__HOST_STATE_MISSING),
               doctor_count(report, CARREL__V1__HOST_NEED__HOST_NEED_OPTIONAL,
                            CARREL__V1__HOST_STATE__HOST_STATE_DEGRADED));
}

static int doctor_self_test(const DoctorValues *v) {
        int r;

        /* It runs `carrel run`, which reads these as the options are read. */
        if (v->common.socket)
                (void)setenv("CARREL_SOCKET", v->common.socket, 1);
        if (v->common.state_dir)
                (void)setenv("CARREL_STATE_DIR", v->common.state_dir, 1);
        if (v->common.no_daemon)
                (void)setenv("CARREL_EMBEDDED", "1", 1);
        r = self_test_run(v->profile, v->json);
        return r < 0 ? STATUS_CARREL : r;
}

static int doctor_run(const void *values, const Operands *operands, Error **reterr) {
        const DoctorValues *v = values;
        const char *state = v->common.state_dir ?: secure_getenv("CARREL_STATE_DIR");
        _cleanup_message_ HostReport *report = NULL;
        int r;

        if (v->self_test)
                return doctor_self_test(v);
        if (v->profile)
                return error_refuse(reterr, EINVAL, "add --self-test, or drop it",
                                    "'--profile' says which profile's walls are tried");
        r = host_examine(state ?: DOCTOR_STATE_DIR, &report, reterr);
        if (r < 0)
                return r;
        if (v->json) {
                r = cli_print_json(&report->base, reterr);
        } else {
                doctor_print(report);
                r = cli_flush(reterr);
        }
        return r < 0 ? r : report->enforceable ? 0 : STATUS_FAILED;
}

const Command command_doctor = {
        .name = "doctor",
        .synopsis = "[--self-test [--profile NAME]] [--json]",
        .summary = "Try what this host can enforce, and say what to do about the rest",
        .details = "Status 1: the default policy cannot be enforced here. Each feature is used "
                   "once, and\n"
                   "nothing is left behind. Needs no supervisor.\n\n"
                   "With --self-test some 700 attempts to get past a workspace's walls, and to do "
                   "what a\n"
                   "job must be able to do, in each shipped profile. Status 1: something did not "
                   "hold; 125:\n"
                   "it could not be tried.",
        .options = {doctor_options, ELEMENTSOF(doctor_options)},
        .values_size = sizeof(DoctorValues),
        .run = doctor_run,
};
