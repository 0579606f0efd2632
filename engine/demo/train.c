/* Trains the demo model: tokens from corpus.py, steps, checkpoints, examinations.
 *
 * A step takes some micro-batches of whole dialogues. Most dialogues stand alone, so positions
 * start at zero and attention sees a few dozen tokens; some sequences are many dialogues in a row,
 * which is what a long chat looks like, and trains every position of the context. Threads share the
 * weights and take micro-batches from a common counter, each adding to its own gradient; the
 * gradients are then summed.
 *
 * The learning rate warms up, stays, and falls linearly to zero over the last steps (WSD): a run
 * can be resumed from any checkpoint of the flat part, with another number of steps to go.
 *
 * BLAS must run single-threaded (the threads are ours): OPENBLAS_NUM_THREADS=1. */
#include "engine/demo/check_grad.h"
#include "engine/demo/exam.h"
#include "engine/demo/model_file.h"
#include "engine/demo/net.h"
#include "engine/demo/optimizer.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS_MAX = 16, MICRO_BATCHES_MAX = 64, CARRIES_LOSS = 0x8000 };

struct options {
    struct net_shape shape;
    const char *data, *questions, *out, *resume, *model;
    int threads, micro_batches, micro_tokens, steps, warmup, decay, exam_every;
    float rate, weight_decay, load_max;
    uint64_t seed;
    bool check_grad, show_wrong;
};

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *zeroed(size_t count, size_t size) {
    void *p = aligned_alloc(64, (count * size + 63) / 64 * 64);
    if (!p)
        abort();
    return memset(p, 0, count * size);
}

/* The corpus: dialogues in file order, round and round. */

struct corpus {
    uint16_t *word; /* per dialogue: count, then tokens with CARRIES_LOSS */
    size_t num_words, at;
    uint64_t random;
    int64_t dialogues, rounds;
};

static bool corpus_open(struct corpus *c, const char *path, uint64_t seed) {
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    fseek(f, 0, SEEK_END);
    *c = (struct corpus){.num_words = (size_t)ftell(f) / 2, .random = seed | 1};
    rewind(f);
    c->word = zeroed(c->num_words + 1, 2);
    size_t got = fread(c->word, 2, c->num_words, f);
    fclose(f);
    return got == c->num_words && got > 0;
}

static uint32_t corpus_random(struct corpus *c, uint32_t below) {
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(c->random >> 33) % below;
}

/* Appends the next dialogue when it fits: inputs are all tokens but the last, targets all but the
 * first. */
static bool append_dialogue(struct corpus *c, struct batch *b, int tokens_max) {
    int len = c->word[c->at];
    const uint16_t *w = c->word + c->at + 1;

    if (b->num_tokens + len > tokens_max)
        return false;
    for (int i = 0; i + 1 < len; i++) {
        b->token[b->num_tokens] = w[i] & ~CARRIES_LOSS;
        b->target[b->num_tokens] = w[i + 1] & ~CARRIES_LOSS;
        b->weight[b->num_tokens++] = w[i + 1] & CARRIES_LOSS ? 1 : 0;
    }
    c->dialogues++;
    c->at += 1 + (size_t)len;
    if (c->at >= c->num_words)
        c->at = 0, c->rounds++;
    return true;
}

/* Fills a micro-batch; one sequence in fifty is a row of dialogues up to the context length. */
static void fill_batch(struct corpus *c, struct batch *b, int tokens_max, int context) {
    b->num_tokens = b->num_sequences = 0;
    for (;;) {
        int first = b->num_tokens, room = tokens_max - first;
        int limit = first + (room < context ? room : context);
        bool is_long = corpus_random(c, 50) == 0;
        if (!append_dialogue(c, b, limit))
            break;
        while (is_long && b->num_tokens + 1 + c->word[c->at] <= limit) {
            int newline = b->num_tokens++; /* the last token, which the cut dropped, comes back */
            b->token[newline] = b->target[newline - 1];
            b->target[newline] = c->word[c->at + 1] & ~CARRIES_LOSS;
            b->weight[newline] = 0;
            if (!append_dialogue(c, b, limit))
                break;
        }
        b->start[b->num_sequences++] = first;
    }
    b->start[b->num_sequences] = b->num_tokens;
}

static struct batch batch_create(int tokens_max) {
    return (struct batch){
        .start = zeroed(tokens_max + 1, sizeof(int)),
        .token = zeroed(tokens_max, 2),
        .target = zeroed(tokens_max, 2),
        .weight = zeroed(tokens_max, sizeof(float)),
    };
}

/* Gradients of one step, by several threads. */

struct trainer {
    const struct options *opt;
    struct net net;
    struct optimizer optimizer;
    struct corpus corpus;
    struct batch batch[MICRO_BATCHES_MAX];
    float scale; /* 1 / sum of loss weights in the step */
    atomic_int next_batch;
    struct worker {
        struct trainer *trainer;
        struct activations *activations;
        float *grad;
        double loss;
    } worker[THREADS_MAX];
};

static void *worker_run(void *arg) {
    struct worker *w = arg;
    struct trainer *t = w->trainer;

    memset(w->grad, 0, t->net.num_weights * sizeof(float));
    w->loss = 0;
    for (int i; (i = atomic_fetch_add(&t->next_batch, 1)) < t->opt->micro_batches;) {
        net_forward(&t->net, &t->batch[i], w->activations);
        w->loss += net_backward(&t->net, &t->batch[i], w->activations, t->scale, w->grad);
    }
    return NULL;
}

/* On a shared machine more than one thread only runs while the others leave room. */
static int polite_threads(const struct options *opt) {
    double load = 0;

    if (opt->load_max > 0 && getloadavg(&load, 1) == 1 && load > (double)opt->load_max)
        return 1;
    return opt->threads;
}

/* Gives the mean loss; the summed gradient is worker 0's. */
static double compute_gradient(struct trainer *t, int *ret_num_tokens) {
    pthread_t thread[THREADS_MAX];
    double weights = 0, loss = 0;

    *ret_num_tokens = 0;
    for (int i = 0; i < t->opt->micro_batches; i++) {
        fill_batch(&t->corpus, &t->batch[i], t->opt->micro_tokens, t->net.shape.context);
        *ret_num_tokens += t->batch[i].num_tokens;
        for (int j = 0; j < t->batch[i].num_tokens; j++)
            weights += t->batch[i].weight[j];
    }
    t->scale = (float)(1 / weights);
    atomic_store(&t->next_batch, 0);
    int threads = polite_threads(t->opt);
    for (int i = 1; i < threads; i++)
        pthread_create(&thread[i], NULL, worker_run, &t->worker[i]);
    worker_run(&t->worker[0]);
    loss = t->worker[0].loss;
    for (int i = 1; i < threads; i++) {
        pthread_join(thread[i], NULL);
        loss += t->worker[i].loss;
        for (size_t j = 0; j < t->net.num_weights; j++)
            t->worker[0].grad[j] += t->worker[i].grad[j];
    }
    return loss / weights;
}

static float rate_at(const struct options *opt, int64_t step) {
    float rate = opt->rate;

    if (step < opt->warmup)
        rate *= (float)(step + 1) / (float)opt->warmup;
    if (step > opt->steps - opt->decay)
        rate *= (float)(opt->steps - step) / (float)opt->decay;
    return rate;
}

static bool trainer_init(struct trainer *t, const struct options *opt) {
    *t = (struct trainer){.opt = opt};
    if (opt->resume) {
        if (!checkpoint_load(opt->resume, &t->net, &t->optimizer))
            return false;
    } else {
        net_init(&t->net, &opt->shape);
        net_randomize(&t->net, opt->seed);
        t->optimizer.m = zeroed(t->net.num_weights, sizeof(float));
        t->optimizer.v = zeroed(t->net.num_weights, sizeof(float));
    }
    for (int i = 0; i < opt->micro_batches; i++)
        t->batch[i] = batch_create(opt->micro_tokens);
    for (int i = 0; i < opt->threads; i++)
        t->worker[i] = (struct worker){
            .trainer = t,
            .activations = activations_create(&t->net.shape, opt->micro_tokens),
            .grad = zeroed(t->net.num_weights, sizeof(float)),
        };
    return corpus_open(&t->corpus, opt->data, opt->seed + (uint64_t)t->optimizer.step);
}

/* What a run has seen so far, for its report. */
struct progress {
    double start, examining; /* seconds */
    double loss, tokens;     /* loss: moving mean */
};

static void report(const struct trainer *t, const struct progress *p) {
    double seconds = now_seconds() - p->start;
    long step = (long)t->optimizer.step;

    printf("step %6ld  loss %.4f  rate %.2e  %5.2f M tokens  round %ld  %6.0f s  %.0f tokens/s\n",
           step, p->loss, (double)rate_at(t->opt, step), p->tokens * 1e-6, (long)t->corpus.rounds,
           seconds, p->tokens / (seconds - p->examining));
    fflush(stdout);
}

static void save_and_examine(const struct trainer *t, const struct exam *exam, struct progress *p) {
    double before = now_seconds();
    char path[4096];

    snprintf(path, sizeof path, "%s/step-%06ld.ckpt", t->opt->out, (long)t->optimizer.step);
    if (!checkpoint_save(path, &t->net, &t->optimizer))
        fprintf(stderr, "cannot write %s\n", path);
    if (exam)
        exam_run(exam, &t->net, true, false);
    p->examining += now_seconds() - before;
}

static int run_training(const struct options *opt) {
    static struct trainer t;
    struct progress p = {.start = now_seconds()};

    if (!trainer_init(&t, opt)) {
        fprintf(stderr, "cannot read the corpus or the checkpoint\n");
        return 1;
    }
    struct exam *exam = opt->questions ? exam_open(opt->questions) : NULL;
    printf("%zu weights, %zu tokens in the corpus\n", t.net.num_weights, t.corpus.num_words);
    /* A resumed run goes on in the text about where it was. */
    for (int64_t skip = t.optimizer.step * opt->micro_batches; skip > 0; skip--)
        fill_batch(&t.corpus, &t.batch[0], opt->micro_tokens, t.net.shape.context);
    while (t.optimizer.step < opt->steps) {
        int num_tokens;
        double loss = compute_gradient(&t, &num_tokens);
        p.tokens += num_tokens;
        p.loss += (loss - p.loss) * (p.loss > 0 ? 0.02 : 1);
        struct optimizer_options how = {rate_at(opt, t.optimizer.step), opt->weight_decay,
                                        polite_threads(opt)};
        optimizer_step(&t.optimizer, &how, &t.net, t.worker[0].grad);
        if (t.optimizer.step % 50 == 0)
            report(&t, &p);
        if (t.optimizer.step % opt->exam_every == 0 || t.optimizer.step == opt->steps)
            save_and_examine(&t, exam, &p);
    }
    exam_close(exam);
    return 0;
}

static int run_exam(const struct options *opt) {
    struct net n;
    const char *dot = strrchr(opt->model, '.');
    bool is_gguf = dot && !strcmp(dot, ".gguf");

    if (!(is_gguf ? gguf_load(opt->model, &n) : checkpoint_load(opt->model, &n, NULL))) {
        fprintf(stderr, "cannot read %s\n", opt->model);
        return 1;
    }
    struct exam *exam = opt->questions ? exam_open(opt->questions) : NULL;
    if (!exam) {
        fprintf(stderr, "--questions: cannot read\n");
        return 1;
    }
    exam_run(exam, &n, false, opt->show_wrong);
    exam_close(exam);
    net_deinit(&n);
    return 0;
}

/* Gives false for an unknown option or a number that makes no sense. */
static bool parse_options(int argc, char **argv, struct options *o) {
    const struct {
        const char *name;
        int *number;
        float *real;
        const char **text;
        bool *flag;
    } known[] = {
        {"dim", &o->shape.dim, 0, 0, 0},
        {"layers", &o->shape.layers, 0, 0, 0},
        {"heads", &o->shape.heads, 0, 0, 0},
        {"kv-heads", &o->shape.kv_heads, 0, 0, 0},
        {"ff", &o->shape.ff, 0, 0, 0},
        {"threads", &o->threads, 0, 0, 0},
        {"micro-batches", &o->micro_batches, 0, 0, 0},
        {"micro-tokens", &o->micro_tokens, 0, 0, 0},
        {"steps", &o->steps, 0, 0, 0},
        {"decay", &o->decay, 0, 0, 0},
        {"exam-every", &o->exam_every, 0, 0, 0},
        {"rate", 0, &o->rate, 0, 0},
        {"weight-decay", 0, &o->weight_decay, 0, 0},
        {"load-max", 0, &o->load_max, 0, 0},
        {"data", 0, 0, &o->data, 0},
        {"questions", 0, 0, &o->questions, 0},
        {"out", 0, 0, &o->out, 0},
        {"resume", 0, 0, &o->resume, 0},
        {"exam", 0, 0, &o->model, 0},
        {"check-grad", 0, 0, 0, &o->check_grad},
        {"show-wrong", 0, 0, 0, &o->show_wrong},
    };
    enum { NUM_KNOWN = sizeof known / sizeof *known };
    struct option longs[NUM_KNOWN + 1] = {0};

    for (int i = 0; i < NUM_KNOWN; i++) {
        int argument = known[i].flag ? no_argument : required_argument;
        longs[i] = (struct option){known[i].name, argument, 0, i};
    }
    for (int i; (i = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (i >= NUM_KNOWN)
            return false;
        char *end = "";
        if (known[i].number)
            *known[i].number = (int)strtol(optarg, &end, 10);
        else if (known[i].real)
            *known[i].real = strtof(optarg, &end);
        else if (known[i].text)
            *known[i].text = optarg;
        else
            *known[i].flag = true;
        if (*end)
            return false;
    }
    return o->threads >= 1 && o->threads <= THREADS_MAX && o->micro_batches >= 1 &&
           o->micro_batches <= MICRO_BATCHES_MAX && o->micro_tokens >= o->shape.context &&
           o->shape.layers <= NET_LAYERS_MAX && o->exam_every >= 1 &&
           (o->check_grad || o->model || o->data);
}

/* The defaults made the models in this folder. */
int main(int argc, char **argv) {
    struct options o = {
        .shape = {768, 160, 6, 5, 1, 448, 512},
        .out = ".",
        .threads = 1,
        .micro_batches = 6,
        .micro_tokens = 512,
        .steps = 8000,
        .warmup = 200,
        .decay = 2000,
        .exam_every = 250,
        .rate = 3e-3f,
        .weight_decay = 0.05f,
        .seed = 1,
    };

    if (!parse_options(argc, argv, &o)) {
        fprintf(stderr, "usage: train --data FILE [options] | --exam MODEL --questions FILE | "
                        "--check-grad; see README.md\n");
        return 2;
    }
    if (o.check_grad)
        return check_grad() ? 0 : 1;
    return o.model ? run_exam(&o) : run_training(&o);
}
