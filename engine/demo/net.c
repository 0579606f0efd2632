/* The network, one function per piece, each followed by its derivative.
 *
 * Pre-norm decoder as the `llama` architecture in GGUF files has it:
 *   x = embd[token]
 *   per layer:  x += out(attention(rope(qkv(norm(x)))));  x += down(silu(gate(norm(x))) *
 * up(norm(x))) logits = embd . norm(x)                                              (tied
 * embedding) RMSNorm with eps 1e-5; rotary angles turn neighbours (2i, 2i+1); grouped query
 * attention: several query heads share a key/value head.
 *
 * The time goes into matrix products, and those to gemm.c: a micro-batch of 512 tokens makes them
 * large enough for the processor's peak and small enough for its caches. Everything else is plain
 * loops that the compiler vectorizes. Attention keeps no probabilities: the backward pass computes
 * them again from the stored log-sum-exp, as in FlashAttention (arXiv:2205.14135).
 *
 * Naming: for a value x, dx is d(loss)/dx. T tokens, D hidden, H heads, Dh head size, F
 * feed-forward. */
#include "engine/demo/net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/demo/gemm.h"

#define NORM_EPS  1e-5f
#define ROPE_BASE 10000.0f
#define DH        NET_HEAD_DIM

static void *allocate(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        abort();
    }
    memset(p, 0, bytes);
    return p;
}

static float *floats(size_t n) {
    return allocate(n * sizeof(float));
}

static size_t qkv_width(const struct net_shape *s) {
    return (size_t)(s->heads + 2 * s->kv_heads) * DH;
}

/* Weights. */

void net_init(struct net *n, const struct net_shape *s) {
    size_t d = s->dim, at = 0;

    n->shape = *s;
    n->embd = at;
    at += s->vocab * d;
    for (int l = 0; l < s->layers; l++) {
        struct net_layer *y = &n->layer[l];
        y->attn_norm = at;
        y->qkv = y->attn_norm + d;
        y->out = y->qkv + qkv_width(s) * d;
        y->ff_norm = y->out + d * s->heads * DH;
        y->gate_up = y->ff_norm + d;
        y->down = y->gate_up + 2 * d * s->ff;
        at = y->down + d * s->ff;
    }
    n->out_norm = at;
    n->num_weights = at + d;
    n->w = floats(n->num_weights);
}

void net_deinit(struct net *n) {
    free(n->w);
    n->w = NULL;
}

static float random_normal(uint64_t *state) {
    float sum = 0;

    for (int i = 0; i < 12; i++) { /* twelve uniforms: close enough to a bell */
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(*state >> 40) / (1 << 24);
    }
    return sum - 6;
}

static void fill_normal(float *w, size_t n, float scale, uint64_t *state) {
    for (size_t i = 0; i < n; i++)
        w[i] = scale * random_normal(state);
}

void net_randomize(struct net *n, uint64_t seed) {
    const struct net_shape *s = &n->shape;
    size_t d = s->dim;
    uint64_t state = seed * 2654435761u + 1;
    float deep = 1 / sqrtf(2.0f * s->layers); /* what adds to the residual stream starts small */

    fill_normal(n->w + n->embd, s->vocab * d, 0.02f, &state);
    for (int l = 0; l < s->layers; l++) {
        const struct net_layer *y = &n->layer[l];
        float in = 0.7f / sqrtf(d), ff = 0.7f / sqrtf(s->ff);
        fill_normal(n->w + y->qkv, qkv_width(s) * d, in, &state);
        fill_normal(n->w + y->out, d * s->heads * DH, in * deep, &state);
        fill_normal(n->w + y->gate_up, 2 * d * s->ff, in, &state);
        fill_normal(n->w + y->down, d * s->ff, ff * deep, &state);
        for (size_t i = 0; i < d; i++)
            n->w[y->attn_norm + i] = n->w[y->ff_norm + i] = 1;
    }
    for (size_t i = 0; i < d; i++)
        n->w[n->out_norm + i] = 1;
}

/* Activations: what one micro-batch leaves behind for its backward pass. */

struct layer_activations {
    float *x;                   /* [T, D] the residual stream on entry */
    float *norm1, *rms1;        /* [T, D], [T] */
    float *qkv, *att, *log_sum; /* [T, (H + 2 Hkv) Dh] after rope, [T, H Dh], [T, H] */
    float *mid;                 /* [T, D] the residual stream after attention */
    float *norm2, *rms2;        /* [T, D], [T] */
    float *gate_up, *hidden;    /* [T, 2 F], [T, F] */
};

struct activations {
    struct net_shape shape;
    struct layer_activations layer[NET_LAYERS_MAX];
    float *x, *norm, *rms;        /* after the last layer */
    float *rows, *logits, *drows; /* gathered rows with loss: [T, D], [T, V], [T, D] */
    float *dx, *dnorm, *dqkv, *datt, *dgate_up, *dhidden;
    float *cosine, *sine; /* [context, Dh / 2] */
    float *score;         /* [context] */
};

struct activations *activations_create(const struct net_shape *s, int num_tokens_max) {
    struct activations *a = allocate(sizeof *a);
    size_t t = num_tokens_max, d = s->dim, f = s->ff, hd = (size_t)s->heads * DH;

    a->shape = *s;
    for (int l = 0; l < s->layers; l++)
        a->layer[l] = (struct layer_activations){
            .x = floats(t * d),
            .norm1 = floats(t * d),
            .rms1 = floats(t),
            .qkv = floats(t * qkv_width(s)),
            .att = floats(t * hd),
            .log_sum = floats(t * s->heads),
            .mid = floats(t * d),
            .norm2 = floats(t * d),
            .rms2 = floats(t),
            .gate_up = floats(t * 2 * f),
            .hidden = floats(t * f),
        };
    a->x = floats(t * d), a->norm = floats(t * d), a->rms = floats(t);
    a->rows = floats(t * d), a->logits = floats(t * s->vocab), a->drows = floats(t * d);
    a->dx = floats(t * d), a->dnorm = floats(t * d), a->dqkv = floats(t * qkv_width(s));
    a->datt = floats(t * hd), a->dgate_up = floats(t * 2 * f), a->dhidden = floats(t * f);
    a->cosine = floats((size_t)s->context * DH / 2), a->sine = floats((size_t)s->context * DH / 2);
    a->score = floats(s->context);
    for (int pos = 0; pos < s->context; pos++)
        for (int i = 0; i < DH / 2; i++) {
            float angle = pos * powf(ROPE_BASE, -2.0f * i / DH);
            a->cosine[pos * DH / 2 + i] = cosf(angle);
            a->sine[pos * DH / 2 + i] = sinf(angle);
        }
    return a;
}

void activations_destroy(struct activations *a) {
    if (!a)
        return;
    for (int l = 0; l < a->shape.layers; l++) {
        struct layer_activations *y = &a->layer[l];
        float *all[] = {y->x,   y->norm1, y->rms1, y->qkv,     y->att,   y->log_sum,
                        y->mid, y->norm2, y->rms2, y->gate_up, y->hidden};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            free(all[i]);
    }
    float *all[] = {a->x,        a->norm,    a->rms,    a->rows, a->logits,
                    a->drows,    a->dx,      a->dnorm,  a->dqkv, a->datt,
                    a->dgate_up, a->dhidden, a->cosine, a->sine, a->score};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    free(a);
}

/* Linear layers. w [out, in] as GGUF stores it; x [T, in], y [T, out]. */

static void linear(const float *x, const float *w, float *y, int t, int in, int out, float keep) {
    gemm(&(struct gemm){.transpose_b = true, .m = t, .n = out, .k = in, .keep = keep}, x, w, y);
}

static void linear_backward(const float *dy, const float *x, const float *w, float *dx, float *dw,
                            int t, int in, int out) {
    gemm(&(struct gemm){.m = t, .n = in, .k = out}, dy, w, dx);
    gemm(&(struct gemm){.transpose_a = true, .m = out, .n = in, .k = t, .keep = 1}, dy, x, dw);
}

/* y = x * r * g with r = 1 / sqrt(mean(x^2) + eps); r is kept. */

static void rms_norm(const float *restrict x, const float *restrict g, float *restrict y,
                     float *restrict r, int t, int d) {
    for (int i = 0; i < t; i++, x += d, y += d) {
        float sum = 0;
        for (int j = 0; j < d; j++)
            sum += x[j] * x[j];
        r[i] = 1 / sqrtf(sum / d + NORM_EPS);
        for (int j = 0; j < d; j++)
            y[j] = x[j] * r[i] * g[j];
    }
}

/* Adds to dx: the residual stream passes its own derivative along. */
static void rms_norm_backward(const float *restrict dy, const float *restrict x,
                              const float *restrict g, const float *restrict r, float *restrict dx,
                              float *restrict dg, int t, int d) {
    for (int i = 0; i < t; i++, x += d, dx += d, dy += d) {
        float dot = 0;
        for (int j = 0; j < d; j++)
            dot += dy[j] * g[j] * x[j];
        float pull = dot * r[i] * r[i] * r[i] / d;
        for (int j = 0; j < d; j++) {
            dx[j] += dy[j] * g[j] * r[i] - x[j] * pull;
            dg[j] += dy[j] * x[j] * r[i];
        }
    }
}

/* Rotary positions on query and key heads; direction -1 turns back, which is the derivative. */
static void rope(const struct activations *a, const struct batch *b, float *qkv, float direction) {
    int heads = a->shape.heads + a->shape.kv_heads, width = (int)qkv_width(&a->shape);

    for (int s = 0; s < b->num_sequences; s++)
        for (int t = b->start[s]; t < b->start[s + 1]; t++) {
            const float *c = a->cosine + (size_t)(t - b->start[s]) * DH / 2;
            const float *z = a->sine + (size_t)(t - b->start[s]) * DH / 2;
            float *v = qkv + (size_t)t * width;
            for (int h = 0; h < heads; h++, v += DH)
                for (int i = 0; i < DH / 2; i++) {
                    float even = v[2 * i], odd = v[2 * i + 1], turn = z[i] * direction;
                    v[2 * i] = even * c[i] - odd * turn;
                    v[2 * i + 1] = even * turn + odd * c[i];
                }
        }
}

/* Causal attention within one sequence, for one head. */

static inline float dot(const float *restrict x, const float *restrict y) {
    float sum = 0;
    for (int i = 0; i < DH; i++)
        sum += x[i] * y[i];
    return sum;
}

static inline void add_scaled(float *restrict y, float scale, const float *restrict x) {
    for (int i = 0; i < DH; i++)
        y[i] += scale * x[i];
}

struct head {
    int first, last; /* token indices of the sequence */
    int width, out_width, num_heads;
    size_t q, k, v, out; /* columns of this head in a row of qkv, in a row of att */
    int index;
};

static void head_forward(const struct head *h, const float *qkv, float *att, float *log_sum,
                         float *score) {
    float scale = 1 / sqrtf(DH);

    for (int i = h->first; i < h->last; i++) {
        const float *q = qkv + (size_t)i * h->width + h->q;
        float *out = att + (size_t)i * h->out_width + h->out;
        float top = -1e30f, sum = 0;
        int n = i - h->first + 1;
        for (int j = 0; j < n; j++)
            score[j] = scale * dot(q, qkv + (size_t)(h->first + j) * h->width + h->k);
        for (int j = 0; j < n; j++)
            top = score[j] > top ? score[j] : top;
        for (int j = 0; j < n; j++) {
            score[j] = expf(score[j] - top);
            sum += score[j];
        }
        log_sum[(size_t)i * h->num_heads + h->index] = top + logf(sum);
        memset(out, 0, DH * sizeof *out);
        for (int j = 0; j < n; j++)
            add_scaled(out, score[j] / sum, qkv + (size_t)(h->first + j) * h->width + h->v);
    }
}

/* ds_ij = p_ij (dout_i . v_j - dout_i . out_i); the second term is the softmax's own. */
static void head_backward(const struct head *h, const float *qkv, const float *att,
                          const float *log_sum, const float *datt, float *dqkv, float *p) {
    float scale = 1 / sqrtf(DH);

    for (int i = h->first; i < h->last; i++) {
        const float *q = qkv + (size_t)i * h->width + h->q;
        const float *dout = datt + (size_t)i * h->out_width + h->out;
        float *dq = dqkv + (size_t)i * h->width + h->q;
        float own = dot(dout, att + (size_t)i * h->out_width + h->out);
        float log_total = log_sum[(size_t)i * h->num_heads + h->index];
        int n = i - h->first + 1;
        for (int j = 0; j < n; j++)
            p[j] = scale * dot(q, qkv + (size_t)(h->first + j) * h->width + h->k) - log_total;
        for (int j = 0; j < n; j++)
            p[j] = expf(p[j]);
        for (int j = 0; j < n; j++) {
            size_t row = (size_t)(h->first + j) * h->width;
            float ds = scale * p[j] * (dot(dout, qkv + row + h->v) - own);
            add_scaled(dqkv + row + h->v, p[j], dout);
            add_scaled(dqkv + row + h->k, ds, q);
            add_scaled(dq, ds, qkv + row + h->k);
        }
    }
}

static struct head head_of(const struct net_shape *s, const struct batch *b, int seq, int index) {
    int kv = index / (s->heads / s->kv_heads);

    return (struct head){
        .first = b->start[seq],
        .last = b->start[seq + 1],
        .width = (int)qkv_width(s),
        .out_width = s->heads * DH,
        .num_heads = s->heads,
        .q = (size_t)index * DH,
        .k = (size_t)(s->heads + kv) * DH,
        .v = (size_t)(s->heads + s->kv_heads + kv) * DH,
        .out = (size_t)index * DH,
        .index = index,
    };
}

/* hidden = silu(gate) * up */

static void swiglu(const float *restrict gate_up, float *restrict hidden, int t, int f) {
    for (int i = 0; i < t; i++, gate_up += 2 * f, hidden += f)
        for (int j = 0; j < f; j++)
            hidden[j] = gate_up[j] / (1 + expf(-gate_up[j])) * gate_up[f + j];
}

static void swiglu_backward(const float *restrict dhidden, const float *restrict gate_up,
                            float *restrict dgate_up, int t, int f) {
    for (int i = 0; i < t; i++, gate_up += 2 * f, dgate_up += 2 * f, dhidden += f)
        for (int j = 0; j < f; j++) {
            float sigmoid = 1 / (1 + expf(-gate_up[j])), silu = gate_up[j] * sigmoid;
            dgate_up[j] = dhidden[j] * gate_up[f + j] * (sigmoid + silu * (1 - sigmoid));
            dgate_up[f + j] = dhidden[j] * silu;
        }
}

/* The whole net. */

static void layer_forward(const struct net *n, int l, const struct batch *b, struct activations *a,
                          float *x_next) {
    const struct net_shape *s = &n->shape;
    const struct net_layer *y = &n->layer[l];
    struct layer_activations *k = &a->layer[l];
    int t = b->num_tokens, d = s->dim;

    rms_norm(k->x, n->w + y->attn_norm, k->norm1, k->rms1, t, d);
    linear(k->norm1, n->w + y->qkv, k->qkv, t, d, (int)qkv_width(s), 0);
    rope(a, b, k->qkv, 1);
    for (int seq = 0; seq < b->num_sequences; seq++)
        for (int h = 0; h < s->heads; h++) {
            struct head head = head_of(s, b, seq, h);
            head_forward(&head, k->qkv, k->att, k->log_sum, a->score);
        }
    memcpy(k->mid, k->x, (size_t)t * d * sizeof(float));
    linear(k->att, n->w + y->out, k->mid, t, s->heads * DH, d, 1);

    rms_norm(k->mid, n->w + y->ff_norm, k->norm2, k->rms2, t, d);
    linear(k->norm2, n->w + y->gate_up, k->gate_up, t, d, 2 * s->ff, 0);
    swiglu(k->gate_up, k->hidden, t, s->ff);
    memcpy(x_next, k->mid, (size_t)t * d * sizeof(float));
    linear(k->hidden, n->w + y->down, x_next, t, s->ff, d, 1);
}

void net_forward(const struct net *n, const struct batch *b, struct activations *a) {
    size_t d = n->shape.dim;
    int layers = n->shape.layers;

    for (int t = 0; t < b->num_tokens; t++)
        memcpy(a->layer[0].x + t * d, n->w + n->embd + b->token[t] * d, d * sizeof(float));
    for (int l = 0; l < layers; l++)
        layer_forward(n, l, b, a, l + 1 < layers ? a->layer[l + 1].x : a->x);
    rms_norm(a->x, n->w + n->out_norm, a->norm, a->rms, b->num_tokens, (int)d);
}

/* On entry a->dx is the derivative of what the layer wrote, on return of what it read. */
static void layer_backward(const struct net *n, int l, const struct batch *b, struct activations *a,
                           float *grad) {
    const struct net_shape *s = &n->shape;
    const struct net_layer *y = &n->layer[l];
    struct layer_activations *k = &a->layer[l];
    int t = b->num_tokens, d = s->dim, width = (int)qkv_width(s);

    linear_backward(a->dx, k->hidden, n->w + y->down, a->dhidden, grad + y->down, t, s->ff, d);
    swiglu_backward(a->dhidden, k->gate_up, a->dgate_up, t, s->ff);
    linear_backward(a->dgate_up, k->norm2, n->w + y->gate_up, a->dnorm, grad + y->gate_up, t, d,
                    2 * s->ff);
    rms_norm_backward(a->dnorm, k->mid, n->w + y->ff_norm, k->rms2, a->dx, grad + y->ff_norm, t, d);

    linear_backward(a->dx, k->att, n->w + y->out, a->datt, grad + y->out, t, s->heads * DH, d);
    memset(a->dqkv, 0, (size_t)t * width * sizeof(float));
    for (int seq = 0; seq < b->num_sequences; seq++)
        for (int h = 0; h < s->heads; h++) {
            struct head head = head_of(s, b, seq, h);
            head_backward(&head, k->qkv, k->att, k->log_sum, a->datt, a->dqkv, a->score);
        }
    rope(a, b, a->dqkv, -1);
    linear_backward(a->dqkv, k->norm1, n->w + y->qkv, a->dnorm, grad + y->qkv, t, d, width);
    rms_norm_backward(a->dnorm, k->x, n->w + y->attn_norm, k->rms1, a->dx, grad + y->attn_norm, t,
                      d);
}

/* Cross entropy of one row of logits [V], which become d(loss)/d(logits) in place. */
static double cross_entropy(float *logits, int v, int target, float weight, float scale) {
    float top = -1e30f, sum = 0, of_target = logits[target];

    for (int i = 0; i < v; i++)
        top = logits[i] > top ? logits[i] : top;
    for (int i = 0; i < v; i++) {
        logits[i] = expf(logits[i] - top);
        sum += logits[i];
    }
    for (int i = 0; i < v; i++)
        logits[i] *= weight * scale / sum;
    logits[target] -= weight * scale;
    return weight * (log(sum) + top - of_target);
}

/* Only tokens with loss meet the output matrix: about a third of the text. */
double net_backward(const struct net *n, const struct batch *b, struct activations *a, float scale,
                    float *grad) {
    size_t d = n->shape.dim;
    int v = n->shape.vocab, rows = 0;
    double loss = 0;

    for (int t = 0; t < b->num_tokens; t++)
        if (b->weight[t] > 0)
            memcpy(a->rows + rows++ * d, a->norm + t * d, d * sizeof(float));
    linear(a->rows, n->w + n->embd, a->logits, rows, (int)d, v, 0);
    for (int t = 0, row = 0; t < b->num_tokens; t++)
        if (b->weight[t] > 0)
            loss +=
                cross_entropy(a->logits + (size_t)row++ * v, v, b->target[t], b->weight[t], scale);
    linear_backward(a->logits, a->rows, n->w + n->embd, a->drows, grad + n->embd, rows, (int)d, v);
    memset(a->dnorm, 0, b->num_tokens * d * sizeof(float));
    for (int t = 0, row = 0; t < b->num_tokens; t++)
        if (b->weight[t] > 0)
            memcpy(a->dnorm + t * d, a->drows + row++ * d, d * sizeof(float));

    memset(a->dx, 0, b->num_tokens * d * sizeof(float));
    rms_norm_backward(a->dnorm, a->x, n->w + n->out_norm, a->rms, a->dx, grad + n->out_norm,
                      b->num_tokens, (int)d);
    for (int l = n->shape.layers - 1; l >= 0; l--)
        layer_backward(n, l, b, a, grad);
    for (int t = 0; t < b->num_tokens; t++) {
        float *row = grad + n->embd + b->token[t] * d;
        for (size_t i = 0; i < d; i++)
            row[i] += a->dx[t * d + i];
    }
    return loss;
}

uint16_t net_argmax(const struct net *n, struct activations *a, int t) {
    int v = n->shape.vocab, best = 0;

    linear(a->norm + (size_t)t * n->shape.dim, n->w + n->embd, a->logits, 1, n->shape.dim, v, 0);
    for (int i = 1; i < v; i++)
        if (a->logits[i] > a->logits[best])
            best = i;
    return (uint16_t)best;
}
