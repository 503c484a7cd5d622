#include "carrel/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "carrel/status.h"

static struct termios terminal_saved, terminal_raw;
static volatile sig_atomic_t terminal_is_raw;
static int signals_event_fd = -EBADF;
static volatile sig_atomic_t signals_stop, signals_resized;

static const int signals_fatal[] = {SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

bool terminal_is_usable(void) {
        return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}

void terminal_restore(void) {
        if (!terminal_is_raw)
                return;
        terminal_is_raw = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_saved);
}

static void terminal_on_fatal(int signal_number) {
        terminal_restore();
        raise(signal_number); /* SA_RESETHAND: now with its default action */
}

/* Stopped by job control from outside: the shell needs its terminal meanwhile. */
static void terminal_on_suspend(int signal_number) {
        int saved = errno;
        bool raw = terminal_is_raw;

        terminal_restore();
        raise(SIGSTOP);
        if (raw && tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_raw) == 0)
                terminal_is_raw = 1;
        errno = saved;
}

static void terminal_handle(int signal_number, void (*handler)(int), int flags) {
        struct sigaction a = {.sa_handler = handler, .sa_flags = flags};

        sigemptyset(&a.sa_mask);
        sigaction(signal_number, &a, NULL);
}

int terminal_enter_raw(Error **reterr) {
        static bool registered;

        if (tcgetattr(STDIN_FILENO, &terminal_saved) < 0)
                return error_set(reterr, errno, "cannot read the terminal's settings");
        if (!registered) {
                registered = true;
                atexit(terminal_restore);
                for (size_t i = 0; i < ELEMENTSOF(signals_fatal); i++)
                        terminal_handle(signals_fatal[i], terminal_on_fatal,
                                        (int)SA_RESETHAND | SA_NODEFER);
                terminal_handle(SIGTSTP, terminal_on_suspend, SA_RESTART);
        }
        terminal_raw = terminal_saved;
        cfmakeraw(&terminal_raw);
        terminal_is_raw = 1; /* first: a signal in between must restore, which does no harm */
        if (tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_raw) < 0) {
                int r = -errno;

                terminal_restore();
                return error_set(reterr, -r, "cannot put the terminal into raw mode");
        }
        return 0;
}

void terminal_size(WindowSize *ret_size) {
        struct winsize w = {};

        ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
        ret_size->rows = w.ws_row ?: 24;
        ret_size->columns = w.ws_col ?: 80;
}

static void signals_wake(void) {
        const uint64_t one = 1;
        ssize_t n = write(signals_event_fd, &one, sizeof one);

        (void)n; /* full: then it is readable already */
}

static void signals_on_stop(int signal_number) {
        int saved = errno;

        if (signals_stop) {
                terminal_restore();
                _exit(STATUS_SIGNAL + signal_number);
        }
        signals_stop = signal_number;
        signals_wake();
        errno = saved;
}

static void signals_on_resize(int signal_number) {
        int saved = errno;

        signals_resized = 1;
        signals_wake();
        errno = saved;
}

/* No SA_RESTART: a write to a stopped terminal must let go when somebody presses Ctrl-C. */
int signals_watch(Error **reterr) {
        struct sigaction old;

        signals_event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (signals_event_fd < 0)
                return error_set(reterr, errno, "cannot watch for signals");
        terminal_handle(SIGINT, signals_on_stop, 0);
        terminal_handle(SIGTERM, signals_on_stop, 0);
        if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN) /* nohup(1) */
                terminal_handle(SIGHUP, signals_on_stop, 0);
        terminal_handle(SIGWINCH, signals_on_resize, 0);
        return 0;
}

int signals_fd(void) {
        return signals_event_fd;
}

int signals_take(bool *ret_resized) {
        static int told;
        uint64_t count;
        ssize_t n = read(signals_event_fd, &count, sizeof count);
        int stop = signals_stop;

        (void)n; /* nothing there is fine */
        *ret_resized = signals_resized;
        signals_resized = 0;
        if (stop == told)
                return 0;
        told = stop;
        return stop;
}
