/* Two optimizers side by side.
 *
 * AdamW moves every weight by about the learning rate, whatever its gradient's size: right for
 * norms and the embedding, whose rows are used at very different rates.
 *
 * A hidden matrix acts as a whole, and its gradient is nearly of low rank: a few directions drown
 * the others. Muon replaces the momentum matrix by the nearest orthogonal one (all singular values
 * become 1), so that rare directions move as much as common ones. Carrying digits in a sum is such
 * a rare direction. The orthogonal matrix comes from five rounds of an odd polynomial in X, X' X
 * (Newton-Schulz), matrix products only. The factor 0.2 sqrt(longer side) gives AdamW's typical
 * step size, so both share one rate.
 *
 * Sources: AdamW arXiv:1711.05101; Muon https://kellerjordan.github.io/posts/muon; scaling and
 * weight decay as in arXiv:2502.16982. */
#include "engine/demo/optimizer.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/demo/gemm.h"

enum { NEWTON_SCHULZ_ROUNDS = 5, MATRICES_MAX = 8 * NET_LAYERS_MAX, OPTIMIZER_THREADS_MAX = 16 };

struct matrix {
    size_t at;
    int rows, columns;
};

struct muon {
    struct matrix matrix[MATRICES_MAX];
    int count;
    atomic_int next;
    struct optimizer *optimizer;
    const struct optimizer_options *opt;
    struct net *net;
    const float *grad;
};

static void list_matrices(const struct net *n, struct muon *u) {
    const struct net_shape *s = &n->shape;
    int d = s->dim, q = s->heads * NET_HEAD_DIM, kv = s->kv_heads * NET_HEAD_DIM;

    u->count = 0;
    for (int l = 0; l < s->layers; l++) {
        const struct net_layer *y = &n->layer[l];
        struct matrix of_layer[] = {
            {y->qkv, q, d},
            {y->qkv + (size_t)q * d, kv, d},
            {y->qkv + (size_t)(q + kv) * d, kv, d},
            {y->out, d, q},
            {y->gate_up, s->ff, d},
            {y->gate_up + (size_t)s->ff * d, s->ff, d},
            {y->down, d, s->ff},
        };
        memcpy(u->matrix + u->count, of_layer, sizeof of_layer);
        u->count += (int)(sizeof of_layer / sizeof *of_layer);
    }
}

/* x [rows, columns] becomes nearly orthogonal. With S the Gram matrix of the shorter side:
 * x <- a x + (b S + c S S) x; the constants push singular values in (0, 1] towards 1 fast. */
static void orthogonalize(float *x, int rows, int columns, float *gram, float *square,
                          float *next) {
    const float a = 3.4445f, b = -4.7750f, c = 2.0315f;
    bool wide = rows < columns;
    int small = wide ? rows : columns;
    size_t size = (size_t)rows * columns;
    float sum = 0;

    for (size_t i = 0; i < size; i++)
        sum += x[i] * x[i];
    float inverse = 1 / (sqrtf(sum) + 1e-12f);
    for (size_t i = 0; i < size; i++)
        x[i] *= inverse;
    for (int round = 0; round < NEWTON_SCHULZ_ROUNDS; round++) {
        gemm(&(struct gemm){!wide, wide, small, small, wide ? columns : rows, 0}, x, x, gram);
        gemm(&(struct gemm){.m = small, .n = small, .k = small}, gram, gram, square);
        for (size_t i = 0; i < (size_t)small * small; i++)
            square[i] = b * gram[i] + c * square[i];
        if (wide)
            gemm(&(struct gemm){.m = rows, .n = columns, .k = small}, square, x, next);
        else
            gemm(&(struct gemm){.m = rows, .n = columns, .k = small}, x, square, next);
        for (size_t i = 0; i < size; i++)
            x[i] = a * x[i] + next[i];
    }
}

static void *muon_run(void *arg) {
    const float momentum = 0.95f;
    struct muon *u = arg;
    const struct net_shape *s = &u->net->shape;
    size_t largest = (size_t)s->dim * (s->ff > 2 * s->dim ? s->ff : 2 * s->dim);
    float *x = aligned_alloc(64, (2 * largest + 2 * (size_t)s->dim * s->dim * 4) * sizeof(float));
    float *next = x + largest, *gram = next + largest, *square = gram + (size_t)s->dim * s->dim * 4;

    for (int i; (i = atomic_fetch_add(&u->next, 1)) < u->count;) {
        struct matrix k = u->matrix[i];
        size_t size = (size_t)k.rows * k.columns;
        float *restrict m = u->optimizer->m + k.at, *restrict w = u->net->w + k.at;
        const float *restrict g = u->grad + k.at;
        for (size_t j = 0; j < size; j++) {
            m[j] = momentum * m[j] + g[j];
            x[j] = g[j] + momentum * m[j];
        }
        orthogonalize(x, k.rows, k.columns, gram, square, next);
        float move = u->opt->rate * 0.2f * sqrtf((float)(k.rows > k.columns ? k.rows : k.columns));
        float keep = 1 - u->opt->rate * u->opt->weight_decay;
        for (size_t j = 0; j < size; j++)
            w[j] = keep * w[j] - move * x[j];
    }
    free(x);
    return NULL;
}

static void adam(struct optimizer *o, const struct optimizer_options *opt, struct net *n,
                 const float *grad, size_t from, size_t count, float decay) {
    const float beta1 = 0.9f, beta2 = 0.98f, eps = 1e-8f;
    float fix1 = 1 / (1 - powf(beta1, (float)o->step)),
          fix2 = 1 / (1 - powf(beta2, (float)o->step));

    for (size_t i = from; i < from + count; i++) {
        o->m[i] += (1 - beta1) * (grad[i] - o->m[i]);
        o->v[i] += (1 - beta2) * (grad[i] * grad[i] - o->v[i]);
        n->w[i] -= opt->rate * (o->m[i] * fix1 / (sqrtf(o->v[i] * fix2) + eps) + decay * n->w[i]);
    }
}

void optimizer_step(struct optimizer *o, const struct optimizer_options *opt, struct net *n,
                    float *grad) {
    static struct muon u;
    pthread_t thread[OPTIMIZER_THREADS_MAX];
    size_t d = n->shape.dim;
    double squares = 0;

    o->step++;
    for (size_t i = 0; i < n->num_weights; i++)
        squares += (double)(grad[i] * grad[i]);
    float clip = squares > 1 ? (float)(1 / sqrt(squares)) : 1;
    for (size_t i = 0; i < n->num_weights; i++)
        grad[i] *= clip;

    adam(o, opt, n, grad, n->embd, n->shape.vocab * d, opt->weight_decay);
    adam(o, opt, n, grad, n->out_norm, d, 0);
    for (int l = 0; l < n->shape.layers; l++) {
        adam(o, opt, n, grad, n->layer[l].attn_norm, d, 0);
        adam(o, opt, n, grad, n->layer[l].ff_norm, d, 0);
    }
    list_matrices(n, &u);
    u.optimizer = o, u.opt = opt, u.net = n, u.grad = grad;
    atomic_store(&u.next, 0);
    for (int i = 1; i < opt->threads; i++)
        pthread_create(&thread[i], NULL, muon_run, &u);
    muon_run(&u);
    for (int i = 1; i < opt->threads; i++)
        pthread_join(thread[i], NULL);
}
