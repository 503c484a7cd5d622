#include "kernel/mountinfo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

static bool mountinfo_is_octal(const char *s) {
        return s[0] >= '0' && s[0] <= '3' && s[1] >= '0' && s[1] <= '7' && s[2] >= '0' &&
               s[2] <= '7';
}

/* "\040" and the like, as the kernel writes blanks. */
static void mountinfo_unescape(char *s) {
        char *to = s;

        for (; *s; s++) {
                if (*s == '\\' && mountinfo_is_octal(s + 1)) {
                        *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
                        s += 3;
                } else {
                        *to++ = *s;
                }
        }
        *to = 0;
}

/* "36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw" */
int mountinfo_next(char **text, MountInfo *ret) {
        char *line = strsep(text, "\n"), *tail, *words[6] = {NULL};

        if (!line || !*line)
                return 0;
        tail = strstr(line, " - ");
        if (!tail)
                return -EBADMSG;
        *tail = 0;
        tail += strlen(" - ");
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                words[i] = strsep(&line, " ");
        if (!words[ELEMENTSOF(words) - 1])
                return -EBADMSG;
        mountinfo_unescape(words[4]);
        *ret = (MountInfo){
                .id = (int)strtol(words[0], NULL, 10),
                .target = words[4],
                .options = words[5],
                .type = strsep(&tail, " "),
        };
        return 1;
}

bool mountinfo_has(const char *options, const char *option) {
        size_t size = strlen(option);

        for (const char *p = options; p; p = strchr(p, ',')) {
                p += *p == ',';
                if (strncmp(p, option, size) == 0 && (p[size] == ',' || !p[size]))
                        return true;
        }
        return false;
}
