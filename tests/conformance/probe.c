/* What checks have in common: verdicts, small looks at files, children. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conformance.h"
#include "result.h"

Start start;
const Profile *profile;
const char *facts[N_FACTS];
const char *scratch;
Result *result;

/* ---- verdicts ---- */

static Verdict __attribute__((format(printf, 2, 0)))
verdict_fail(const char *expected, const char *found, va_list arguments) {
        int n = snprintf(result->why, sizeof result->why, "expected %s, found ", expected);

        if (n > 0 && (size_t)n < sizeof result->why)
                vsnprintf(result->why + n, sizeof result->why - (size_t)n, found, arguments);
        return VERDICT_FAILED;
}

static Verdict __attribute__((format(printf, 2, 3)))
verdict_failed(const char *expected, const char *found, ...) {
        va_list arguments;
        Verdict v;

        va_start(arguments, found);
        v = verdict_fail(expected, found, arguments);
        va_end(arguments);
        return v;
}

Verdict verdict_expect(bool ok, const char *expected, const char *found, ...) {
        va_list arguments;
        Verdict v = VERDICT_HELD;

        if (ok)
                return v;
        va_start(arguments, found);
        v = verdict_fail(expected, found, arguments);
        va_end(arguments);
        return v;
}

Verdict verdict_skip(const char *why, ...) {
        va_list arguments;

        va_start(arguments, why);
        vsnprintf(result->why, sizeof result->why, why, arguments);
        va_end(arguments);
        return VERDICT_SKIPPED;
}

bool errno_is_refusal(int code) {
        return code == EPERM || code == EACCES || code == ENOSYS;
}

const char *errno_name(int code) {
        return strerrorname_np(code) ?: "?";
}

static void verdict_note_answer(long r, int code) {
        result->answer = r >= 0                   ? ANSWER_WORKED
                         : errno_is_refusal(code) ? ANSWER_REFUSED
                                                  : ANSWER_OTHER;
}

Verdict verdict_refused(const char *what, long r) {
        int code = errno;

        verdict_note_answer(r, code);
        if (r < 0 && errno_is_refusal(code))
                return VERDICT_HELD;
        if (r >= 0)
                return verdict_failed("a refusal", "that %s works", what);
        /* Then the kernel looked at the arguments: the call itself was let through. */
        return verdict_failed("a refusal (EPERM, EACCES, ENOSYS)", "%s of %s", errno_name(code),
                              what);
}

Verdict verdict_denied(const char *what, long r) {
        verdict_note_answer(r, errno);
        return r < 0 ? VERDICT_HELD : verdict_failed("a failure", "that %s works", what);
}

Verdict verdict_worked(const char *what, long r) {
        int code = errno;

        verdict_note_answer(r, code);
        return r >= 0 ? VERDICT_HELD
                      : verdict_failed("that it works", "%s of %s", errno_name(code), what);
}

/* ---- checks that are data ---- */

static long check_make_call(const Check *c) {
        return syscall(c->number, c->args[0], c->args[1], c->args[2], c->args[3], c->args[4],
                       c->args[5]);
}

Verdict check_call(const Check *c) {
        return verdict_refused(c->text ?: c->name, check_make_call(c));
}

Verdict check_no_call(const Check *c) {
        long r = check_make_call(c);

        return verdict_expect(r < 0 && errno == ENOSYS, "ENOSYS", "%s",
                              r < 0 ? errno_name(errno) : "an answer");
}

/* Opened, never written: where this is let through, nothing may change. */
Verdict check_unwritable(const Check *c) {
        int fd = open(c->text, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd >= 0)
                return verdict_refused(c->text, fd);
        if (errno == EROFS || errno == ENOENT || errno == ENOTDIR)
                errno = EACCES;
        return verdict_refused(c->text, -1);
}

Verdict check_unreadable(const Check *c) {
        int fd = open(c->text, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        char byte;

        if (fd < 0)
                return verdict_denied(c->text, -1);
        return verdict_denied(c->text, read(fd, &byte, 1) > 0 ? 0 : -1);
}

Verdict check_absent(const Check *c) {
        struct stat st;

        return verdict_denied(c->text, lstat(c->text, &st));
}

/* ---- probes ---- */

ssize_t probe_read(const char *path, char *buffer, size_t size) {
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        size_t at = 0;
        ssize_t n = fd;

        while (fd >= 0 && at < size - 1 && (n = read(fd, buffer + at, size - 1 - at)) > 0)
                at += (size_t)n;
        buffer[at] = 0;
        if (fd >= 0)
                close(fd);
        return n < 0 ? -1 : (ssize_t)at;
}

bool probe_field(const char *path, const char *name, char *value, size_t size) {
        char text[8192];
        size_t n = strlen(name);

        if (probe_read(path, text, sizeof text) < 0)
                return false;
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                if (strncmp(line, name, n) == 0 && line[n] == ':') {
                        line += n + 1;
                        line += strspn(line, " \t");
                        snprintf(value, size, "%s", line);
                        return true;
                }
        return false;
}

size_t probe_numbers(const char *text, unsigned long *ret_numbers, size_t max) {
        size_t n = 0;
        char *end;

        for (; n < max; n++, text = end) {
                ret_numbers[n] = strtoul(text, &end, 10);
                if (end == text)
                        break;
        }
        return n;
}

int probe_contains(const char *path, const char *text) {
        FILE *f = fopen(path, "re");
        char *line = NULL;
        size_t size = 0;
        int found = 0;

        if (!f)
                return -1;
        while (!found && getline(&line, &size, f) >= 0)
                found = strstr(line, text) != NULL;
        free(line);
        fclose(f);
        return found;
}

const char *probe_path(const char *name) {
        static char paths[4][PATH_MAX];
        static unsigned next;
        char *path = paths[next++ % 4];

        snprintf(path, PATH_MAX, "%s/%s", scratch, name);
        return path;
}

int probe_make(const char *name, const char *content, mode_t mode) {
        int fd = open(probe_path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

        if (fd >= 0 && *content && write(fd, content, strlen(content)) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

pid_t probe_sleeper(void) {
        pid_t pid = fork();

        if (pid == 0)
                for (;;)
                        pause();
        return pid;
}

int probe_end(pid_t pid) {
        int status = 0;

        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return status;
}

int probe_await(pid_t pid) {
        int status = 0;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return 255;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static _Noreturn void probe_run_script(const char *script, int out) {
        int null = open("/dev/null", O_RDONLY);

        if (chdir(scratch) < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
                _exit(126);
        execl("/bin/sh", "sh", "-c", script, (char *)NULL);
        _exit(127);
}

/* The last line that is not empty, without what a terminal or a line of our own could not bear. */
static void probe_last_line(char *text) {
        size_t end = strlen(text), begin;

        while (end > 0 && (text[end - 1] == '\n' || text[end - 1] == ' '))
                text[--end] = 0;
        for (begin = end; begin > 0 && text[begin - 1] != '\n';)
                begin--;
        memmove(text, text + begin, end - begin + 1);
        for (; *text; text++)
                if ((unsigned char)*text < ' ')
                        *text = '?';
}

int probe_shell(const char *script, char *output, size_t size) {
        FILE *out = tmpfile();
        int status;
        pid_t pid;

        if (!out)
                return 255;
        pid = fork();
        if (pid == 0)
                probe_run_script(script, fileno(out));
        status = pid < 0 ? 255 : probe_await(pid);
        rewind(out);
        output[fread(output, 1, size - 1, out)] = 0;
        fclose(out);
        probe_last_line(output);
        return status;
}

bool probe_has(const char *program) {
        const char *at = getenv("PATH") ?: "/usr/bin:/bin";
        char path[PATH_MAX];

        while (*at) {
                size_t n = strcspn(at, ":");

                snprintf(path, sizeof path, "%.*s/%s", (int)n, at, program);
                if (access(path, X_OK) == 0)
                        return true;
                at += n + (at[n] == ':');
        }
        return false;
}

bool probe_mounts(bool (*each)(const Mount *m, void *data), void *data) {
        FILE *f = fopen("/proc/self/mountinfo", "re");
        bool stop = false;
        char *line = NULL;
        size_t size = 0;

        if (!f)
                return false;
        while (!stop && getline(&line, &size, f) >= 0) {
                char *dash = strstr(line, " - ");
                Mount m = {0};

                if (dash && sscanf(line, "%*s %*s %*s %255s %511s %255s", m.root, m.point,
                                   m.options) == 3) {
                        (void)sscanf(dash, " - %63s %*s %1023s", m.type, m.super);
                        stop = each(&m, data);
                }
        }
        free(line);
        fclose(f);
        return stop;
}
