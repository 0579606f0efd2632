/* What every scaling rule gives: how many replicas, and the reason in a word and in numbers. */
#ifndef CORE_SCALE_DECISION_H
#define CORE_SCALE_DECISION_H

#include <stdbool.h>
#include <stdint.h>

enum { SCALE_INPUTS_BYTES_MAX = 360 };

struct scale_decision {
    int32_t replicas;
    const char *reason;                  /* a CamelCase word, static: "Panic", "AtMaxReplicas" */
    char inputs[SCALE_INPUTS_BYTES_MAX]; /* logfmt pairs: what it was made from */
    int64_t again_ms; /* worth another look after this long; 0: at the next tick */
};

#endif
