#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/look.h"
#include "base/fd.h"

static void proc_path(pid_t pid, const char *file, char *ret_path, size_t size) {
        snprintf(ret_path, size, "/proc/%d/%.64s", (int)pid, file);
}

char *proc_read(pid_t pid, const char *file, size_t max) {
        char path[96], *text = NULL;

        proc_path(pid, file, path, sizeof path);
        return file_read_at(AT_FDCWD, path, max, &text, NULL, NULL) < 0 ? NULL : text;
}

bool proc_field(const char *text, const char *name, char *ret_value, size_t size) {
        size_t n = strlen(name);

        for (const char *line = text; line && *line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (strncmp(line, name, n) != 0 || line[n] != ':')
                        continue;
                line += n + 1;
                line += strspn(line, " \t");
                snprintf(ret_value, size, "%.*s", (int)strcspn(line, "\n"), line);
                return true;
        }
        return false;
}

bool proc_link(pid_t pid, const char *file, char *ret_target, size_t size) {
        char path[96];
        ssize_t n;

        proc_path(pid, file, path, sizeof path);
        n = readlink(path, ret_target, size - 1);
        ret_target[n > 0 ? n : 0] = 0;
        return n > 0;
}

unsigned long long proc_start_time(pid_t pid) {
        _cleanup_free_ char *text = proc_read(pid, "stat", 4 * KIB);
        const char *p = text ? strrchr(text, ')') : NULL; /* the name may hold anything */
        char state = 'Z', start[24];

        /* proc(5): the 22nd field; ")" ends the second. */
        if (!p || sscanf(p + 1,
                         " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                         "%*s %23s",
                         &state, start) != 2)
                return 0;
        return state == 'Z' || state == 'X' ? 0 : strtoull(start, NULL, 10);
}

void proc_namespace(pid_t pid, const char *name, char *ret_text, size_t size) {
        char file[32];

        snprintf(file, sizeof file, "ns/%s", name);
        (void)proc_link(pid, file, ret_text, size);
}

int proc_mount_id(pid_t pid, const char *file) {
        _cleanup_close_ int fd = -EBADF;
        char path[96], value[24];
        _cleanup_free_ char *text = NULL;

        proc_path(pid, file, path, sizeof path);
        fd = open(path, O_PATH | O_CLOEXEC);
        if (fd < 0)
                return -1;
        snprintf(path, sizeof path, "fdinfo/%d", fd);
        text = proc_read(getpid(), path, 4 * KIB);
        return text && proc_field(text, "mnt_id", value, sizeof value)
                       ? (int)strtol(value, NULL, 10)
                       : -1;
}

void proc_name(pid_t pid, char *ret_name, size_t size) {
        _cleanup_free_ char *comm = proc_read(pid, "comm", 256);

        if (comm)
                comm[strcspn(comm, "\n")] = 0;
        snprintf(ret_name, size, "%d (%s)", (int)pid, comm ?: "?");
}
