#include "base/log.h"

#include <stdarg.h>
#include <unistd.h>

static const char *log_program = "carrel";
static LogLevel log_most = LOG_LEVEL_INFO;

void log_open(const char *program, LogLevel most) {
        log_program = program;
        log_most = most;
}

static void log_text(LogLevel level, const char *text) {
        if (isatty(STDERR_FILENO))
                dprintf(STDERR_FILENO, "%s: %s\n", log_program, text);
        else
                dprintf(STDERR_FILENO, "<%d>%s: %s\n", (int)level, log_program, text);
}

void log_line(LogLevel level, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        if (level > log_most)
                return;
        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        log_text(level, text ?: "out of memory");
}

void log_error(LogLevel level, const Error *e, const char *format, ...) {
        _cleanup_free_ char *text = NULL, *line = NULL;
        va_list ap;

        if (level > log_most)
                return;
        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        if (asprintf(&line, "%s: %s%s%s%s", text ?: "", e && e->what ? e->what : "out of memory",
                     e && e->hint ? " (" : "", e && e->hint ? e->hint : "",
                     e && e->hint ? ")" : "") < 0)
                line = NULL;
        log_text(level, line ?: "out of memory");
}
