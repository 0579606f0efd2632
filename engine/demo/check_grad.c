/* Derivatives against difference quotients.
 *
 * Each tensor is moved along its own gradient g, to both sides: the loss must then change by |g|
 * per unit of length. One direction per tensor, instead of one weight at a time, makes the change
 * in loss large against the noise of fp32, and any wrong entry of g shortens or bends it visibly.
 */
#include "engine/demo/check_grad.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/demo/net.h"

#define STEP_LENGTH 4e-3f

enum { TOKENS = 60, PARTS_MAX = 2 + 6 * NET_LAYERS_MAX };

/* Three sequences of different lengths, every third token without loss. */
static struct batch sample_batch(int vocab) {
    static int start[] = {0, 13, 30, TOKENS};
    static uint16_t token[TOKENS], target[TOKENS];
    static float weight[TOKENS];

    for (int t = 0; t < TOKENS; t++) {
        token[t] = (uint16_t)(t * 7 % vocab);
        target[t] = (uint16_t)(t * 13 % vocab);
        weight[t] = t % 3 ? 1 : 0;
    }
    return (struct batch){TOKENS, 3, start, token, target, weight};
}

/* Fills from[0 .. parts] with the first weight of each tensor, and the end; gives parts. */
static int list_parts(const struct net *n, size_t *from) {
    int parts = 0;

    from[parts++] = n->embd;
    for (int l = 0; l < n->shape.layers; l++) {
        const struct net_layer *y = &n->layer[l];
        size_t of[] = {y->attn_norm, y->qkv, y->out, y->ff_norm, y->gate_up, y->down};
        memcpy(from + parts, of, sizeof of);
        parts += 6;
    }
    from[parts++] = n->out_norm;
    from[parts] = n->num_weights;
    return parts;
}

struct probe {
    struct net net;
    struct batch batch;
    struct activations *activations;
    float *grad, *scratch; /* [num_weights] */
};

static double loss_moved(struct probe *p, size_t from, size_t to, float by) {
    for (size_t i = from; i < to; i++)
        p->net.w[i] += by * p->grad[i];
    net_forward(&p->net, &p->batch, p->activations);
    double loss = net_backward(&p->net, &p->batch, p->activations, 1, p->scratch);
    for (size_t i = from; i < to; i++)
        p->net.w[i] -= by * p->grad[i];
    return loss;
}

static bool check_part(struct probe *p, int index, size_t from, size_t to) {
    double squares = 0;

    for (size_t i = from; i < to; i++)
        squares += (double)p->grad[i] * p->grad[i];
    double length = sqrt(squares);
    float by = STEP_LENGTH / (float)length;
    double change = loss_moved(p, from, to, by) - loss_moved(p, from, to, -by);
    double quotient = change / (2 * (double)STEP_LENGTH), off = fabs(quotient - length) / length;
    printf("tensor %2d  gradient %10.5f  difference %10.5f  off %.5f%s\n", index, length, quotient,
           off, off < 0.01 ? "" : "  WRONG");
    return off < 0.01;
}

bool check_grad(void) {
    const struct net_shape shape = {
        .vocab = 50, .dim = 64, .layers = 2, .heads = 4, .kv_heads = 2, .ff = 96, .context = 32};
    struct probe p = {.batch = sample_batch(shape.vocab)};
    size_t from[PARTS_MAX + 1];
    bool ok = true;

    net_init(&p.net, &shape);
    net_randomize(&p.net, 3);
    for (size_t i = 0; i < p.net.num_weights; i++) /* norms differ, matrices are large enough */
        p.net.w[i] = p.net.w[i] * 1.5f + 0.01f * (float)(i * 2654435761u % 9) - 0.04f;
    p.activations = activations_create(&shape, TOKENS);
    p.grad = calloc(p.net.num_weights, sizeof(float));
    p.scratch = calloc(p.net.num_weights, sizeof(float));
    if (!p.grad || !p.scratch)
        abort();
    net_forward(&p.net, &p.batch, p.activations);
    net_backward(&p.net, &p.batch, p.activations, 1, p.grad);
    int parts = list_parts(&p.net, from);
    for (int i = 0; i < parts; i++)
        ok &= check_part(&p, i, from[i], from[i + 1]);
    free(p.grad);
    free(p.scratch);
    activations_destroy(p.activations);
    net_deinit(&p.net);
    return ok;
}
