/*
 * Terminals: nobody types for somebody else
 *
 * TIOCSTI and TIOCLINUX put characters into a terminal's input, which the shell that started us
 * would execute: CVE-2017-5226 (bubblewrap), CVE-2019-10063 and CVE-2023-28100 (Flatpak),
 * CVE-2016-2779 (runuser). The kernel reads 32 bits of the request, a filter may read 64.
 */
#include <fcntl.h>
#include <linux/tty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "conformance.h"

/* A fresh terminal; its other side stays open until we end. Return: the slave. */
static int terminal_open(void) {
        int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0;

        if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
                return -1;
        return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
}

/* A fresh terminal that is ours: what is refused here is refused everywhere. */
static int terminal_own(void) {
        int fd = terminal_open();

        (void)setpgid(0, getppid()); /* a leader of a group cannot begin a session */
        (void)setsid();
        (void)ioctl(fd, TIOCSCTTY, 0);
        return fd;
}

/* @number: the request; its argument is one character. */
static Verdict terminal_ioctl(const Check *c) {
        char character[2] = "\n";
        int fd = terminal_own();

        return verdict_refused(c->name, syscall(SYS_ioctl, fd, c->number, character));
}

/* A child begins a session with a terminal; another takes it away. */
static Verdict terminal_steal(const Check *c) {
        int fd = terminal_open(), ready[2], r;
        char byte;
        pid_t owner;

        if (fd < 0 || pipe(ready) < 0)
                return verdict_expect(false, "a terminal", "%s", errno_name(errno));
        owner = fork();
        if (owner == 0) {
                (void)setsid();
                (void)ioctl(fd, TIOCSCTTY, 0);
                (void)!write(ready[1], "x", 1);
                for (;;)
                        pause();
        }
        (void)!read(ready[0], &byte, 1);
        (void)setpgid(0, getppid());
        (void)setsid();
        r = ioctl(fd, TIOCSCTTY, 1);
        kill(owner, SIGKILL);
        return verdict_refused("taking a terminal", r);
}

/* @number: the line discipline. The kernel may load a module for it: CVE-2017-2636 (n_hdlc),
 * CVE-2023-6546 (n_gsm). */
static Verdict terminal_discipline(const Check *c) {
        int discipline = (int)c->number, fd = terminal_open();

        return verdict_refused(c->name, ioctl(fd, TIOCSETD, &discipline));
}

static Verdict terminal_controlling(const Check *c) {
        struct stat own, st;
        int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
        const char *name = fd < 0 ? NULL : ttyname(fd);

        if (fd < 0)
                return verdict_denied("/dev/tty", -1);
        return verdict_denied("a terminal of the host", name && stat(name, &own) == 0 &&
                                                                        fstat(fd, &st) == 0 &&
                                                                        own.st_rdev == st.st_rdev
                                                                ? -1
                                                                : 0);
}

/* @number: the descriptor. A terminal among them must be one of our own /dev/pts. */
static Verdict terminal_standard(const Check *c) {
        bool is_terminal = isatty((int)c->number);

        return verdict_expect(!is_terminal || ttyname((int)c->number),
                              "no terminal, or one of the workspace's own", "one from outside");
}

#define REQUEST(name_, request)                                                                    \
        { .name = (name_), .run = terminal_ioctl, .number = (request) }
#define HIGH_BITS (1L << 32)

static const Check checks[] = {
        REQUEST("sti", TIOCSTI),
        REQUEST("sti_with_high_bits", TIOCSTI | HIGH_BITS),
        REQUEST("linux", TIOCLINUX),
        REQUEST("linux_with_high_bits", TIOCLINUX | HIGH_BITS),
        REQUEST("console", TIOCCONS),
        REQUEST("hangup", TIOCVHANGUP),
        REQUEST("lock_settings", TIOCSLCKTRMIOS),
        {"steal", terminal_steal},
        {"discipline_slip", terminal_discipline, .number = N_SLIP},
        {"discipline_ppp", terminal_discipline, .number = N_PPP},
        {"discipline_hdlc", terminal_discipline, .number = N_HDLC},
        {"discipline_gsm", terminal_discipline, .number = N_GSM0710},
        {"controlling", terminal_controlling},
        {"standard_input", terminal_standard, .number = 0},
        {"standard_output", terminal_standard, .number = 1},
        {"standard_error", terminal_standard, .number = 2},
};

const Class class_terminal = CLASS("terminal", "nobody types for somebody else", checks);
