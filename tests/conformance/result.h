/* How a check's process tells main.c what it found: a page that both share. */
#pragma once

#include "conformance.h"

typedef enum Answer {
        ANSWER_NONE,
        ANSWER_WORKED,
        ANSWER_REFUSED,
        ANSWER_OTHER,
} Answer;

typedef struct Result {
        Verdict verdict;
        Answer answer; /* to what the check tried: tells "it is let through" from "it is broken" */
        char why[1024];
} Result;

extern Result *result;
