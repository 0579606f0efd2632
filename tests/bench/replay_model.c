/* The model. Events are arrivals, ends of engine steps, and the tick of the rule; between two of
 * them nothing changes. A replica plans a step as inferd's engine does: one token for each sequence
 * that decodes, and prompt tokens, in order of arrival, for what is left of the step. The gateway
 * keeps requests in order and gives each to the replica with the fewest, when it has room.
 *
 * A replica costs from the decision to start it until it has finished its last request. */
#include "tests/bench/replay_model.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum { REPLICAS_MAX = 64, SEQS_MAX = 64, LINE_BYTES_MAX = 1 << 16, TTFT_KEPT = 4096 };
static const double ITL_FACTOR = 4, TTFT_SECONDS = 1, TTFT_FACTOR = 3, TTFT_SPAN = 30;

/* ---- traces ---- */

static void append(struct replay_trace *t, struct replay_request rq) {
    if (!(t->num & (t->num - 1))) /* a power of two: full */
        t->requests = mem_realloc(t->requests, (t->num ? 2 * t->num : 1) * sizeof(rq));
    t->requests[t->num++] = rq;
}

/* "2023-11-16 18:17:03.9799600,4808,10" */
static bool read_csv(const char *line, struct replay_request *rq) {
    struct tm tm = {0};
    const char *rest = strptime(line, "%Y-%m-%d %H:%M:%S", &tm);
    char *end;
    if (!rest)
        return false;
    rq->arrival = (double)timegm(&tm) + strtod(rest, &end);
    return sscanf(end, ",%d,%d", &rq->prompt_tokens, &rq->output_tokens) == 2;
}

static bool read_json(const char *line, struct replay_request *rq) {
    const char *at = strstr(line, "\"timestamp\":"), *in = strstr(line, "\"input_length\":");
    const char *out = strstr(line, "\"output_length\":");
    if (!at || !in || !out)
        return false;
    rq->arrival = strtod(strchr(at, ':') + 1, NULL) / 1000;
    rq->prompt_tokens = (int32_t)strtol(strchr(in, ':') + 1, NULL, 10);
    rq->output_tokens = (int32_t)strtol(strchr(out, ':') + 1, NULL, 10);
    return true;
}

static int by_arrival(const void *a, const void *b) {
    const struct replay_request *ra = a, *rb = b;
    return ra->arrival < rb->arrival ? -1 : ra->arrival > rb->arrival;
}

enum errc replay_trace_read(const char *path, struct replay_trace *ret, struct error *err) {
    struct replay_trace t = {0};
    FILE *f = fopen(path, "r");
    if (!f)
        return err_errno(err, "open %s", path);
    char *line = mem_alloc(LINE_BYTES_MAX);
    enum errc rc = OK;
    for (int number = 1; !rc && fgets(line, LINE_BYTES_MAX, f); number++) {
        struct replay_request rq = {0};
        bool good = line[0] == '{' ? read_json(line, &rq) : read_csv(line, &rq);
        if (good && rq.prompt_tokens > 0 && rq.output_tokens > 0)
            append(&t, rq);
        else if (number > 1) /* the first line of a CSV names its columns */
            rc = err_set(err, ERR_MALFORMED, "%s:%d: not a request", path, number);
    }
    if (!rc && ferror(f))
        rc = err_errno(err, "read %s", path);
    free(line);
    fclose(f);
    if (rc || t.num < 2) {
        replay_trace_deinit(&t);
        return rc ? rc : err_set(err, ERR_MALFORMED, "%s: fewer than two requests", path);
    }
    qsort(t.requests, t.num, sizeof(t.requests[0]), by_arrival);
    double first = t.requests[0].arrival;
    for (uint32_t i = 0; i < t.num; i++)
        t.requests[i].arrival -= first;
    t.seconds = t.requests[t.num - 1].arrival;
    *ret = t;
    return OK;
}

void replay_trace_deinit(struct replay_trace *t) {
    free(t->requests);
    *t = (struct replay_trace){0};
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* ---- replicas ---- */

struct sequence {
    uint32_t request;
    int32_t prompt_left, output_left, in_step; /* in_step: prompt tokens of the step under way */
};

struct replica {
    bool used, stopping;
    double ready_at, since, step_end; /* step_end INFINITY: idle */
    struct sequence seqs[SEQS_MAX];
    int32_t num_seqs;
};

struct run {
    const struct replay_trace *trace;
    const struct replay_speed *speed;
    double now;
    struct replica replicas[REPLICAS_MAX];
    uint32_t next_arrival, *queue, queue_head, queue_tail, num_done;
    double *first; /* when each request got its first token */
    double ttft[TTFT_KEPT], ttft_at[TTFT_KEPT];
    uint32_t num_ttft;
    struct replay_result result;
};

static bool is_ready(const struct run *r, const struct replica *p) {
    return p->used && !p->stopping && p->ready_at <= r->now;
}

static void begin_step(struct run *r, struct replica *p) {
    const struct replay_speed *s = r->speed;
    double cost = s->step_seconds;
    int32_t left = s->step_tokens;
    if (!p->num_seqs) {
        p->step_end = INFINITY;
        return;
    }
    for (int32_t i = 0; i < p->num_seqs; i++) {
        struct sequence *q = &p->seqs[i];
        q->in_step = q->prompt_left < left ? q->prompt_left : left;
        left -= q->in_step;
        cost += q->in_step / s->prefill_rate;
        cost += q->prompt_left ? 0 : s->sequence_seconds;
    }
    p->step_end = r->now + cost;
}

static void first_token(struct run *r, uint32_t request) {
    double ttft = r->now - r->trace->requests[request].arrival;
    r->first[request] = r->now;
    r->ttft[r->num_ttft % TTFT_KEPT] = ttft;
    r->ttft_at[r->num_ttft++ % TTFT_KEPT] = r->now;
}

static void finish(struct run *r, uint32_t request) {
    const struct replay_request *rq = &r->trace->requests[request];
    const struct replay_speed *s = r->speed;
    double alone = rq->prompt_tokens / s->prefill_rate + s->step_seconds;
    double ttft = r->first[request] - rq->arrival;
    double itl = rq->output_tokens > 1 ? (r->now - r->first[request]) / (rq->output_tokens - 1) : 0;
    bool late = ttft > TTFT_SECONDS + TTFT_FACTOR * alone ||
                itl > ITL_FACTOR * (s->step_seconds + s->sequence_seconds);
    r->result.misses += late;
    r->num_done++;
}

static void end_step(struct run *r, struct replica *p) {
    int32_t kept = 0;
    for (int32_t i = 0; i < p->num_seqs; i++) {
        struct sequence q = p->seqs[i];
        bool decodes = !q.prompt_left;
        q.prompt_left -= q.in_step;
        if (decodes || (q.in_step && !q.prompt_left)) {
            if (!decodes)
                first_token(r, q.request);
            q.output_left--;
        }
        if (q.output_left > 0)
            p->seqs[kept++] = q;
        else
            finish(r, q.request);
    }
    p->num_seqs = kept;
    begin_step(r, p);
}

/* The gateway: in order, to the replica with the fewest. */
static void dispatch(struct run *r) {
    while (r->queue_head < r->queue_tail) {
        struct replica *best = NULL;
        for (int i = 0; i < REPLICAS_MAX; i++) {
            struct replica *p = &r->replicas[i];
            if (is_ready(r, p) && p->num_seqs < r->speed->num_seqs_max &&
                (!best || p->num_seqs < best->num_seqs))
                best = p;
        }
        if (!best)
            return;
        uint32_t request = r->queue[r->queue_head++];
        const struct replay_request *rq = &r->trace->requests[request];
        best->seqs[best->num_seqs++] = (struct sequence){
            .request = request, .prompt_left = rq->prompt_tokens, .output_left = rq->output_tokens};
        if (isinf(best->step_end))
            begin_step(r, best);
    }
}

/* ---- scaling ---- */

static int32_t count_current(const struct run *r) {
    int32_t num = 0;
    for (int i = 0; i < REPLICAS_MAX; i++)
        num += r->replicas[i].used && !r->replicas[i].stopping;
    return num;
}

static void start_one(struct run *r, double ready_at) {
    int i = 0;
    while (r->replicas[i].used)
        i++;
    ASSERT(i < REPLICAS_MAX);
    r->replicas[i] =
        (struct replica){.used = true, .since = r->now, .ready_at = ready_at, .step_end = INFINITY};
}

/* One that is still starting goes first, then the one with the least to do. */
static void stop_one(struct run *r) {
    struct replica *best = NULL;
    for (int i = 0; i < REPLICAS_MAX; i++) {
        struct replica *p = &r->replicas[i];
        if (!p->used || p->stopping)
            continue;
        bool starting = p->ready_at > r->now, best_starting = best && best->ready_at > r->now;
        if (!best || (starting && !best_starting) ||
            (starting == best_starting && p->num_seqs < best->num_seqs))
            best = p;
    }
    best->stopping = true;
}

static void reap(struct run *r) {
    for (int i = 0; i < REPLICAS_MAX; i++) {
        struct replica *p = &r->replicas[i];
        if (!p->used || !p->stopping || p->num_seqs)
            continue;
        r->result.replica_seconds += r->now - p->since;
        p->used = false;
    }
}

static double recent_p95(const struct run *r) {
    static double recent[TTFT_KEPT];
    uint32_t num = 0;
    for (uint32_t i = r->num_ttft; i > 0 && r->num_ttft - i < TTFT_KEPT; i--) {
        if (r->ttft_at[(i - 1) % TTFT_KEPT] < r->now - TTFT_SPAN)
            break;
        recent[num++] = r->ttft[(i - 1) % TTFT_KEPT];
    }
    if (!num)
        return -1;
    qsort(recent, num, sizeof(*recent), by_value);
    return recent[(num - 1) * 95 / 100];
}

static void tick(struct run *r, const struct replay_rule *rule) {
    struct replay_view v = {.now_ms = (int64_t)(r->now * 1000),
                            .queued = r->queue_tail - r->queue_head,
                            .ttft_p95 = recent_p95(r),
                            .current = count_current(r),
                            .start_ms = (int64_t)(r->speed->start_seconds * 1000)};
    for (uint32_t i = r->queue_head; i < r->queue_tail; i++)
        v.queued_tokens += r->trace->requests[r->queue[i]].prompt_tokens;
    v.in_flight = v.queued;
    for (int i = 0; i < REPLICAS_MAX; i++) {
        const struct replica *p = &r->replicas[i];
        v.ready += is_ready(r, p);
        v.in_flight += p->used ? p->num_seqs : 0;
        for (int32_t k = 0; p->used && k < p->num_seqs; k++)
            v.queued_tokens += p->seqs[k].prompt_left;
    }
    int32_t want = rule->decide(rule->state, &v);
    want = want > r->speed->replicas_max ? r->speed->replicas_max : want < 0 ? 0 : want;
    for (int32_t n = v.current; n < want; n++)
        start_one(r, r->now + r->speed->start_seconds);
    for (int32_t n = v.current; n > want; n--)
        stop_one(r);
    r->result.most_replicas = want > r->result.most_replicas ? want : r->result.most_replicas;
}

/* ---- the run ---- */

static double next_event(const struct run *r, double tick_at) {
    double at = tick_at;
    if (r->next_arrival < r->trace->num && r->trace->requests[r->next_arrival].arrival < at)
        at = r->trace->requests[r->next_arrival].arrival;
    for (int i = 0; i < REPLICAS_MAX; i++) {
        const struct replica *p = &r->replicas[i];
        if (!p->used)
            continue;
        at = p->step_end < at ? p->step_end : at;
        at = p->ready_at > r->now && p->ready_at < at ? p->ready_at : at;
    }
    return at;
}

static void finish_result(struct run *r) {
    for (int i = 0; i < REPLICAS_MAX; i++)
        r->result.replica_seconds += r->replicas[i].used ? r->now - r->replicas[i].since : 0;
    uint32_t num = r->trace->num;
    for (uint32_t i = 0; i < num; i++)
        r->first[i] -= r->trace->requests[i].arrival;
    qsort(r->first, num, sizeof(*r->first), by_value);
    r->result.ttft_p50 = r->first[num / 2];
    r->result.ttft_p99 = r->first[num - 1 - num / 100];
}

void replay_run(const struct replay_trace *t, const struct replay_speed *speed,
                const struct replay_rule *rule, struct replay_result *ret) {
    struct run *r = mem_alloc(sizeof(*r));
    r->trace = t;
    r->speed = speed;
    r->queue = mem_array(t->num, sizeof(*r->queue));
    r->first = mem_array(t->num, sizeof(*r->first));
    start_one(r, 0); /* all begin with one that is ready */
    for (double tick_at = 0; r->num_done < t->num;) {
        r->now = next_event(r, tick_at);
        for (int i = 0; i < REPLICAS_MAX; i++)
            if (r->replicas[i].used && r->replicas[i].step_end <= r->now)
                end_step(r, &r->replicas[i]);
        while (r->next_arrival < t->num && t->requests[r->next_arrival].arrival <= r->now)
            r->queue[r->queue_tail++] = r->next_arrival++;
        dispatch(r);
        if (tick_at <= r->now) {
            tick(r, rule);
            tick_at += 1;
        }
        reap(r);
    }
    finish_result(r);
    *ret = r->result;
    free(r->queue);
    free(r->first);
    free(r);
}

/* ---- the size of the machine ---- */

static int32_t all_of_them(void *state, const struct replay_view *view) {
    return *(const int32_t *)state;
}

struct replay_speed replay_speed_for(const struct replay_trace *t, double start_seconds) {
    enum { HALVINGS = 12, MISSES_PERCENT = 1, REPLICAS = 8 };
    struct replay_speed s = {.step_seconds = 0.008,
                             .sequence_seconds = 0.0003,
                             .step_tokens = 2048,
                             .num_seqs_max = 16,
                             .replicas_max = REPLICAS};
    int32_t num = REPLICAS;
    double low = 100, high = 1e6; /* prompt tokens per second */
    for (int i = 0; i < HALVINGS; i++) {
        struct replay_result r;
        s.prefill_rate = sqrt(low * high);
        s.start_seconds = 0.001;
        replay_run(t, &s, &(struct replay_rule){all_of_them, &num}, &r);
        if (r.misses * 100 > t->num * MISSES_PERCENT)
            low = s.prefill_rate;
        else
            high = s.prefill_rate;
    }
    s.prefill_rate = high;
    s.start_seconds = start_seconds;
    return s;
}
