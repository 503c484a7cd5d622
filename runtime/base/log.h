/*
 * What a daemon tells its operator, on stderr
 *
 * Lines carry the kernel's "<N>" priority prefix when stderr is not a terminal, which journald and
 * most collectors understand (sd-daemon(3)). Libraries do not log: they return errors.
 */
#pragma once

#include "base/error.h"

typedef enum LogLevel {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
} LogLevel;

/** log_open() - name this process and set the least important level that is shown. */
void log_open(const char *program, LogLevel most);

void log_line(LogLevel level, const char *format, ...) _printf_(2, 3);

/** log_error() - a line for an error with its hint, after what was being done. */
void log_error(LogLevel level, const Error *e, const char *format, ...) _printf_(3, 4);
