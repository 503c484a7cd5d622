/*
 * The caller's terminal while a run uses it, and the signals that matter then
 *
 * Invariant: whatever way the process ends (return, exit(3), a fatal signal, a second Ctrl-C), the
 *            terminal is as it was; only SIGKILL escapes.
 * State is per process, as terminals and signal handlers are.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "proto/messages.h"

/** terminal_is_usable() - standard input and output are both terminals. */
bool terminal_is_usable(void);

/** terminal_enter_raw() - until terminal_restore() or the end of the process. */
int terminal_enter_raw(Error **reterr);

/** terminal_restore() - safe in signal handlers; does nothing twice. */
void terminal_restore(void);

/** terminal_size() - of standard output; 24 x 80 where it does not know. */
void terminal_size(WindowSize *ret_size);

/**
 * signals_watch() - from now on SIGINT, SIGTERM, SIGHUP and SIGWINCH are noted
 *
 * A second one of the first three ends the process at once with 128 + its number.
 */
int signals_watch(Error **reterr);

/** signals_fd() - readable when something was noted. */
int signals_fd(void);

/** signals_take() - what was noted since the last call. Return: signal that asks us to stop, or 0.
 */
int signals_take(bool *ret_resized);
