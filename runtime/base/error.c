#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const char error_no_memory[] = "out of memory";

static _printf_(1, 0) char *error_format(const char *format, va_list ap) {
        char *s = NULL;

        return vasprintf(&s, format, ap) < 0 ? NULL : s;
}

/* An error about memory must not need any: a missing text is shown as such. */
static void error_put(Error **reterr, int code, char *what, const char *hint) {
        Error *e;

        if (!reterr || *reterr) {
                free(what);
                return;
        }
        e = calloc(1, sizeof *e);
        if (!e) {
                free(what);
                return;
        }
        e->code = code;
        e->what = what;
        e->hint = hint ? strdup(hint) : NULL;
        *reterr = e;
}

/* One errno says the same wherever it comes from. */
static const char *error_usual_hint(int code) {
        return code == ENOSYS
                       ? "this kernel is older than Linux 5.19, or a filter around carrel hides "
                         "the call: see carrel doctor"
                       : NULL;
}

int error_set(Error **reterr, int code, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        char *what = NULL;
        va_list ap;

        va_start(ap, format);
        text = error_format(format, ap);
        va_end(ap);
        if (asprintf(&what, "%s: %s", text ?: error_no_memory, strerror(code)) < 0)
                what = NULL;
        error_put(reterr, code, what, error_usual_hint(code));
        return -code;
}

int error_refuse(Error **reterr, int code, const char *hint, const char *format, ...) {
        char *what;
        va_list ap;

        va_start(ap, format);
        what = error_format(format, ap);
        va_end(ap);
        error_put(reterr, code, what, hint);
        return -code;
}

int error_wrap(Error **reterr, int r, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        char *what = NULL;
        va_list ap;

        if (!reterr)
                return r;
        va_start(ap, format);
        text = error_format(format, ap);
        va_end(ap);
        if (!*reterr) {
                if (asprintf(&what, "%s: %s", text ?: error_no_memory, strerror(-r)) < 0)
                        what = NULL;
                error_put(reterr, -r, what, NULL);
        } else if (asprintf(&what, "%s: %s", text ?: error_no_memory,
                            (*reterr)->what ?: error_no_memory) >= 0) {
                free((*reterr)->what);
                (*reterr)->what = what;
        }
        return r;
}

int error_hint(Error **reterr, int r, const char *format, ...) {
        va_list ap;

        if (!reterr || !*reterr || (*reterr)->hint)
                return r;
        va_start(ap, format);
        (*reterr)->hint = error_format(format, ap);
        va_end(ap);
        return r;
}

int error_field(Error **reterr, int r, const char *format, ...) {
        va_list ap;

        if (!reterr || !*reterr || (*reterr)->field)
                return r;
        va_start(ap, format);
        (*reterr)->field = error_format(format, ap);
        va_end(ap);
        return r;
}

void error_move(Error **to, Error **from) {
        if (to && !*to)
                *to = TAKE_PTR(*from);
        else
                error_freep(from);
}

Error *error_new_copy(int code, const char *what, const char *hint, const char *field) {
        Error *e = calloc(1, sizeof *e);

        if (!e)
                return NULL;
        e->code = code;
        e->what = strdup(what ?: "");
        e->hint = hint && *hint ? strdup(hint) : NULL;
        e->field = field && *field ? strdup(field) : NULL;
        return e;
}

static void error_print_escaped(FILE *to, const char *s) {
        for (; *s; s++) {
                unsigned char c = (unsigned char)*s;

                if (c < 0x20 && c != '\n' && c != '\t')
                        fprintf(to, "\\x%02x", c);
                else if (c == 0x7f)
                        fputs("\\x7f", to);
                else
                        fputc(c, to);
        }
}

void error_print(FILE *to, const char *program, const Error *e) {
        fprintf(to, "%s: ", program);
        error_print_escaped(to, e && e->what ? e->what : error_no_memory);
        fputc('\n', to);
        if (e && e->hint) {
                fputs("  hint: ", to);
                error_print_escaped(to, e->hint);
                fputc('\n', to);
        }
}

Error *error_free(Error *e) {
        if (!e)
                return NULL;
        free(e->what);
        free(e->hint);
        free(e->field);
        free(e);
        return NULL;
}

void error_list_add(ErrorList *list, Error **error) {
        if (list && *error && list->n < ELEMENTSOF(list->items))
                list->items[list->n++] = TAKE_PTR(*error);
        *error = error_free(*error);
}

void error_list_done(ErrorList *list) {
        while (list->n > 0)
                error_free(list->items[--list->n]);
}
