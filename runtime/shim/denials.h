/*
 * Denied system calls as events, without a flood
 *
 * Alike are denials of the same call with the same arguments, as far as they are worth saying. The
 * first of a kind is told at once, then at most one event a second and kind, with a count; of all
 * kinds together a few a second, and a bounded number a run. What found no place is counted as lost
 * in the next event, so that the sum of `count` and `lost` is what was denied.
 *
 * Trust: the words come from policy/; how often, and which calls, is an agent's to choose.
 */
#pragma once

#include <stdbool.h>

#include "policy/syscalls.h"
#include "proto/messages.h"

#define DENIALS_MAX_KINDS      64u
#define DENIALS_MAX_PER_SECOND 20u
#define DENIALS_MAX_PER_RUN    1000u

typedef struct Denials Denials;

typedef void (*DenialsEmit)(Event *event, void *data);

/** denials_new() - NULL: no memory. */
Denials *denials_new(DenialsEmit emit, void *data);

/** denials_add() - one more at @now_us. Return: whether something waits for denials_tick(). */
bool denials_add(Denials *d, uint64_t now_us, const SyscallExplanation *why);

/** denials_tick() - tell what waited long enough. Return: whether something still waits. */
bool denials_tick(Denials *d, uint64_t now_us);

/** denials_flush() - the run ends: tell everything that waits, at most one event past the run's
 * bound. */
void denials_flush(Denials *d);

/** denials_each() - the kinds that are remembered, and how many of each there were so far. */
void denials_each(const Denials *d,
                  void (*use)(const SyscallExplanation *why, uint64_t count, void *data),
                  void *data);

Denials *denials_free(Denials *d);
