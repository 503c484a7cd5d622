/*
 * The generated messages under their plain names, and the few generic operations on them
 *
 * Everything that crosses a wall, stands on disk or is read from a person's file is one of these.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/error.h"
#include "carrel/v1/common.pb-c.h"
#include "carrel/v1/control.pb-c.h"
#include "carrel/v1/event.pb-c.h"
#include "carrel/v1/guest.pb-c.h"
#include "carrel/v1/host.pb-c.h"
#include "carrel/v1/image.pb-c.h"
#include "carrel/v1/internal.pb-c.h"
#include "carrel/v1/plan.pb-c.h"
#include "carrel/v1/policy.pb-c.h"
#include "carrel/v1/record.pb-c.h"
#include "carrel/v1/task.pb-c.h"

typedef Carrel__V1__Artifact Artifact;
typedef Carrel__V1__ArtifactRule ArtifactRule;
typedef Carrel__V1__Audit Audit;
typedef Carrel__V1__AuditFinding AuditFinding;
typedef Carrel__V1__Change Change;
typedef Carrel__V1__Check Check;
typedef Carrel__V1__Error ErrorMessage;
typedef Carrel__V1__Event Event;
typedef Carrel__V1__Feedback Feedback;
typedef Carrel__V1__Grant Grant;
typedef Carrel__V1__GrantValue GrantValue;
typedef Carrel__V1__GuestRequest GuestRequest;
typedef Carrel__V1__GuestResponse GuestResponse;
typedef Carrel__V1__HostFinding HostFinding;
typedef Carrel__V1__HostReport HostReport;
typedef Carrel__V1__Image Image;
typedef Carrel__V1__InitEvent InitEvent;
typedef Carrel__V1__InitRequest InitRequest;
typedef Carrel__V1__Outcome Outcome;
typedef Carrel__V1__OutputSegment OutputSegment;
typedef Carrel__V1__Plan Plan;
typedef Carrel__V1__PlanMount PlanMount;
typedef Carrel__V1__PlanProcess PlanProcess;
typedef Carrel__V1__Policy Policy;
typedef Carrel__V1__Request Request;
typedef Carrel__V1__Response Response;
typedef Carrel__V1__Run Run;
typedef Carrel__V1__RunState RunState;
typedef Carrel__V1__ShimCommand ShimCommand;
typedef Carrel__V1__SpawnRequest SpawnRequest;
typedef Carrel__V1__SpawnResponse SpawnResponse;
typedef Carrel__V1__Task Task;
typedef Carrel__V1__WindowSize WindowSize;

typedef ProtobufCMessage Message;
typedef ProtobufCMessageDescriptor MessageDescriptor;

/** message_free() - accepts NULL. */
static inline void message_free(void *m) {
        if (m)
                protobuf_c_message_free_unpacked(m, NULL);
}

static inline void message_freep(void *m) {
        message_free(*(void **)m);
}

#define _cleanup_message_ _cleanup_(message_freep)

/** message_pack() - the wire form in a fresh buffer. Return: 0, -ENOMEM. */
int message_pack(const Message *m, uint8_t **ret_data, size_t *ret_size);

/** message_unpack() - -EBADMSG when the bytes are not such a message. The result: message_free().
 */
int message_unpack(const MessageDescriptor *d, const void *data, size_t size, void **ret_message);

/** message_copy() - a deep copy, through the wire form. NULL when memory is out. */
void *message_copy(const Message *m);

/** message_new() - an empty message on the heap, to be filled with heap objects only. */
void *message_new(const MessageDescriptor *d);

/** message_set_string() - replace a string field by a copy. Return: 0, -ENOMEM. */
int message_set_string(char **field, const char *value);

/**
 * message_append() - let a repeated message field grow by one; consumes @item on success
 * @array: address of the field's pointer array   @n: address of its counter
 */
int message_append(void *array, size_t *n, void *item);

/**
 * message_make_text_valid() - replace every byte that is no UTF-8 in the strings of a message by
 * '?'
 *
 * proto3 strings are UTF-8 and other languages' libraries refuse a message where they are not; what
 * an agent wrote may be anything.
 */
void message_make_text_valid(Message *m);

/** error_to_message() - NULL when memory is out or @e is NULL. */
ErrorMessage *error_to_message(const Error *e);

/** error_from_message() - what a peer reported; NULL stays NULL. */
Error *error_from_message(const ErrorMessage *m);
