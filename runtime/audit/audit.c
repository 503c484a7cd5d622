#include "audit/audit.h"

#include <errno.h>
#include <string.h>

#include "audit/look.h"
#include "base/digest.h"
#include "base/fd.h"

#define AUDIT_MAX_PLAN (8 * MIB)

static AuditFinding *audit_new_finding(const char *subject,
                                       const char *property,
                                       const char *planned,
                                       const char *found,
                                       bool same) {
        AuditFinding *f = message_new(&carrel__v1__audit_finding__descriptor);

        if (!f)
                return NULL;
        f->same = same;
        if (message_set_string(&f->subject, subject) < 0 ||
            message_set_string(&f->property, property) < 0 ||
            message_set_string(&f->planned, planned) < 0 ||
            message_set_string(&f->found, found) < 0) {
                message_free(f);
                return NULL;
        }
        return f;
}

int look_tell(Look *l,
              const char *subject,
              const char *property,
              const char *planned,
              const char *found,
              bool same) {
        AuditFinding *f;

        l->audit->differences += !same; /* also of what there is no more room for */
        if (l->audit->n_findings >= AUDIT_MAX_FINDINGS)
                return 0;
        f = audit_new_finding(subject, property, planned, found, same);
        if (!f || message_append(&l->audit->findings, &l->audit->n_findings, f) < 0) {
                message_free(f);
                return -ENOMEM;
        }
        return 0;
}

/* The plan on disk must be the one that was journaled. */
static int audit_read_plan(Look *l, Plan **ret_plan, Error **reterr) {
        const AuditSpec *spec = l->spec;
        _cleanup_free_ char *data = NULL;
        char text[DIGEST_TEXT_SIZE];
        uint8_t digest[DIGEST_SIZE];
        size_t size;
        int r = file_read_at(spec->run_fd, "plan", AUDIT_MAX_PLAN, &data, &size, reterr);

        if (r < 0)
                return r;
        r = message_unpack(&carrel__v1__plan__descriptor, data, size, (void **)ret_plan);
        if (r < 0 || !(*ret_plan)->identity)
                return error_set(reterr, EBADMSG, "the plan of run '%s' cannot be read",
                                 spec->run->id);
        digest_bytes(data, size, digest);
        digest_text(digest, text);
        return look_tell(l, "plan", "digest", spec->run->plan_digest, text,
                         strcmp(text, spec->run->plan_digest) == 0);
}

static int audit_look(Look *l, Error **reterr) {
        int r = groups_find(l, reterr);

        if (r == 0)
                r = processes_find_init(l, reterr);
        if (r < 0)
                return r;
        r = groups_check_limits(l);
        if (r == 0)
                r = mounts_check(l);
        if (r == 0)
                r = processes_check(l);
        if (proc_start_time(l->init) != l->init_born) /* what was found is half of a workspace */
                return error_refuse(reterr, EAGAIN, "see 'carrel events'",
                                    "run '%s' ended while it was looked at", l->spec->run->id);
        return r < 0 ? error_set(reterr, -r, "cannot look at run '%s'", l->spec->run->id) : 0;
}

int audit_workspace(const AuditSpec *spec, Audit **ret_audit, Error **reterr) {
        _cleanup_message_ Audit *audit = message_new(&carrel__v1__audit__descriptor);
        _cleanup_message_ Plan *plan = NULL;
        Look look = {.spec = spec, .audit = audit};
        int r;

        if (!audit || message_set_string(&audit->run, spec->run->id) < 0 ||
            message_set_string(&audit->plan_digest, spec->run->plan_digest) < 0)
                return error_set(reterr, ENOMEM, "cannot audit");
        r = audit_read_plan(&look, &plan, reterr);
        look.plan = plan;
        if (r == 0)
                r = audit_look(&look, reterr);
        groups_done(&look);
        mounts_done(&look);
        if (r < 0)
                return r;
        message_make_text_valid(&audit->base); /* names of processes are an agent's words */
        *ret_audit = TAKE_PTR(audit);
        return 0;
}
