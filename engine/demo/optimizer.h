/* How a gradient becomes a step: Muon for the matrices inside the layers, AdamW for the rest. */
#ifndef ENGINE_DEMO_OPTIMIZER_H
#define ENGINE_DEMO_OPTIMIZER_H

#include "engine/demo/net.h"

struct optimizer {
    int64_t step;
    float *m, *v; /* [num_weights] first and second moments; Muon's matrices leave v untouched */
};

struct optimizer_options {
    float rate, weight_decay;
    int threads;
};

/* Clips `grad` to length 1 (in place) and moves the weights. */
void optimizer_step(struct optimizer *o, const struct optimizer_options *opt, struct net *n,
                    float *grad);

#endif
