/* The demo model's network: a llama-shaped decoder, forward and backward, in fp32 on one thread.
 *
 * All weights of a net are one flat array, so that gradients and optimizer moments are arrays of
 * the same length and a checkpoint is one write. Nothing here locks; several threads may use one
 * `net` for reading, each with its own `activations` and gradient array. */
#ifndef ENGINE_DEMO_NET_H
#define ENGINE_DEMO_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NET_HEAD_DIM = 32, NET_LAYERS_MAX = 16 };

struct net_shape {
    int32_t vocab, dim, layers, heads, kv_heads, ff, context;
};

/* Offsets into the flat array, in floats. */
struct net_layer {
    size_t attn_norm; /* [D] */
    size_t qkv;       /* [(H + 2 Hkv) Dh, D]: rows of query, key, value */
    size_t out;       /* [D, H Dh] */
    size_t ff_norm;   /* [D] */
    size_t gate_up;   /* [2 F, D]: rows of gate, up */
    size_t down;      /* [D, F] */
};

struct net {
    struct net_shape shape;
    size_t embd; /* [V, D], also the output matrix */
    struct net_layer layer[NET_LAYERS_MAX];
    size_t out_norm; /* [D] */
    size_t num_weights;
    float *w; /* [num_weights] */
};

/* Sequences packed one after the other; attention never crosses a sequence's start. */
struct batch {
    int num_tokens, num_sequences;
    int *start;       /* [num_sequences + 1] token index */
    uint16_t *token;  /* [num_tokens] */
    uint16_t *target; /* [num_tokens] the token that follows */
    float *weight;    /* [num_tokens] loss weight, 0: no loss here */
};

struct activations;

/* Computes the offsets and allocates `w`, zeroed. Aborts when memory is out: this is a tool. */
void net_init(struct net *n, const struct net_shape *shape);
void net_deinit(struct net *n);
void net_randomize(struct net *n, uint64_t seed);

struct activations *activations_create(const struct net_shape *shape, int num_tokens_max);
void activations_destroy(struct activations *a);

/* Runs the layers; `a` keeps what net_backward() needs. */
void net_forward(const struct net *n, const struct batch *b, struct activations *a);

/* After net_forward(): gives sum over tokens of weight * cross entropy; adds d(loss * scale)/dw to
 * `grad`. */
double net_backward(const struct net *n, const struct batch *b, struct activations *a, float scale,
                    float *grad);

/* After net_forward(): the most likely next token after position `t`. */
uint16_t net_argmax(const struct net *n, struct activations *a, int t);

#endif
