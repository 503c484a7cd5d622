/* The function that libFuzzer calls; the unit tests replay the corpus through the same. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
