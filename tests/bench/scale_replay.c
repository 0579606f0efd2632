/* Replays recorded load against scaling rules and prints what each pays for how many late answers.
 *
 *     scale_replay [--start SECONDS] [--all] TRACE...
 *     scale_replay --decisions N      how long one decision for N services takes
 *
 * Three rules see the same load, the same replicas and the same start time (replay_model.h):
 *
 *   inferd    core/scale/inference.h, once a second
 *   knative   the KPA, every two seconds, on concurrency (what is held counts, as at its activator)
 *   keda+hpa  a Prometheus trigger on running and waiting requests, scraped every 15 s, and the
 *             HorizontalPodAutoscaler that KEDA makes of it, every 15 s
 *
 * Nobody tunes a rule for one trace and then claims it for all, so each rule runs with all
 * combinations of its knobs, target by target and window by window, and only the best of them
 * count: the Pareto front. The table walks the front of both comparators together and says what
 * inferd's front has at the same cost, and at the same number of late answers. Points that are late
 * for more than half of the requests are shown, and not judged: nobody wants them. Exit status 1:
 * somewhere else a comparator is better. */
#include <math.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/scale/hpa.h"
#include "core/scale/inference.h"
#include "core/scale/keda.h"
#include "core/scale/kpa.h"
#include "tests/bench/replay_model.h"

enum { POINTS_MAX = 1024, PLOT_COLUMNS = 72, PLOT_ROWS = 18 };

struct point {
    char rule, label[72]; /* 'i', 'k', 'h' */
    struct replay_result result;
};
struct points {
    struct point all[POINTS_MAX];
    uint32_t num;
};

/* ---- the rules ---- */

static int32_t decide_inference(void *state, const struct replay_view *v) {
    struct inference_sample m = {.in_flight = v->in_flight,
                                 .queued_tokens = v->queued_tokens,
                                 .kv_usage = -1,
                                 .ttft_p95_seconds = v->ttft_p95,
                                 .itl_p95_seconds = -1,
                                 .start_ms = v->start_ms,
                                 .ready = v->ready,
                                 .current = v->current};
    struct scale_decision d;
    inference_decide(state, v->now_ms, &m, &d);
    return d.replicas;
}

static int32_t decide_kpa(void *state, const struct replay_view *v) {
    struct scale_decision d = {.replicas = v->current};
    kpa_record(state, v->now_ms, v->in_flight);
    if (v->now_ms / 1000 % 2 == 0)
        kpa_decide(state, v->now_ms, v->ready, v->current, &d);
    return d.replicas;
}

struct keda_rule {
    struct keda_spec spec;
    struct keda_state state;
    struct hpa_spec hpa;
    struct hpa_history history;
    double threshold;
};

static int32_t decide_keda(void *state, const struct replay_view *v) {
    struct keda_rule *k = state;
    struct keda_trigger t = {.threshold = k->threshold, .value = v->in_flight};
    struct hpa_decision d;
    int32_t wanted;
    if (v->now_ms / 1000 % 15 != 0 || !keda_wanted(&k->spec, &t, 1, v->current, &wanted))
        return v->current;
    hpa_decide(&k->history, &k->hpa, v->now_ms, v->current, wanted, &d);
    hpa_history_changed(&k->history, v->now_ms, v->current, d.replicas);
    return d.replicas;
}

/* ---- the sweeps ---- */

static const double targets[] = {0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2,  2.5, 3,
                                 4,    5,   6,    8, 10,   12,  16,   24, 32};

static struct point *add_point(struct points *p, char rule) {
    ASSERT(p->num < POINTS_MAX);
    struct point *at = &p->all[p->num++];
    at->rule = rule;
    return at;
}

static void sweep_inference(const struct replay_trace *t, const struct replay_speed *s,
                            struct points *p) {
    static const double readiness[] = {0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98};
    static const struct {
        int window, idle; /* seconds */
    } times[] = {{5, 30}, {5, 300}, {60, 300}, {300, 300}};
    for (size_t i = 0; i < ARRAY_LEN(targets) * ARRAY_LEN(times); i++) {
        int window = times[i % ARRAY_LEN(times)].window, idle = times[i % ARRAY_LEN(times)].idle;
        for (size_t k = 0; k < ARRAY_LEN(readiness); k++) {
            struct inference_spec spec = inference_spec_default();
            spec.concurrency = targets[i / ARRAY_LEN(times)];
            spec.window_ms = window * 1000;
            spec.idle_ms = idle * 1000;
            spec.readiness = readiness[k];
            spec.max_replicas = s->replicas_max;
            AUTO(inference) rule = inference_create(&spec);
            struct point *at = add_point(p, 'i');
            snprintf(at->label, sizeof(at->label),
                     "concurrency %g, readiness %g, window %d s, idle %d s", spec.concurrency,
                     readiness[k], window, idle);
            replay_run(t, s, &(struct replay_rule){decide_inference, rule}, &at->result);
        }
    }
}

static void sweep_kpa(const struct replay_trace *t, const struct replay_speed *s,
                      struct points *p) {
    static const int windows[] = {6, 15, 30, 60, 120, 300};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        for (size_t k = 0; k < ARRAY_LEN(windows); k++) {
            struct kpa_spec spec = kpa_spec_default();
            spec.target = targets[i];
            spec.target_utilization = 1; /* the target says it all */
            spec.window_ms = windows[k] * 1000;
            spec.min_scale = 1;
            spec.max_scale = s->replicas_max;
            AUTO(kpa) rule = kpa_create(&spec);
            struct point *at = add_point(p, 'k');
            snprintf(at->label, sizeof(at->label), "target %g, window %d s", targets[i],
                     windows[k]);
            replay_run(t, s, &(struct replay_rule){decide_kpa, rule}, &at->result);
        }
    }
}

static void sweep_keda(const struct replay_trace *t, const struct replay_speed *s,
                       struct points *p) {
    static const int windows[] = {0, 30, 60, 120, 300};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        for (size_t k = 0; k < ARRAY_LEN(windows); k++) {
            struct keda_rule *rule = mem_alloc(sizeof(*rule));
            rule->spec = keda_spec_default();
            rule->spec.min_replicas = 1;
            rule->spec.max_replicas = s->replicas_max;
            rule->threshold = targets[i];
            rule->hpa = (struct hpa_spec){.min_replicas = 1,
                                          .max_replicas = s->replicas_max,
                                          .up = hpa_rules_up_default(),
                                          .down = hpa_rules_down_default()};
            rule->hpa.down.stabilization_seconds = windows[k];
            struct point *at = add_point(p, 'h');
            snprintf(at->label, sizeof(at->label), "threshold %g, stabilization %d s", targets[i],
                     windows[k]);
            replay_run(t, s, &(struct replay_rule){decide_keda, rule}, &at->result);
            free(rule);
        }
    }
}

/* ---- the fronts ---- */

static bool is_ours(const struct point *p) {
    return p->rule == 'i';
}

static bool dominates(const struct point *a, const struct point *b) {
    const struct replay_result *x = &a->result, *y = &b->result;
    return x->replica_seconds <= y->replica_seconds && x->misses <= y->misses &&
           (x->replica_seconds < y->replica_seconds || x->misses < y->misses);
}

/* Among its own side. */
static bool on_front(const struct points *p, const struct point *at) {
    for (uint32_t i = 0; i < p->num; i++)
        if (is_ours(&p->all[i]) == is_ours(at) && dominates(&p->all[i], at))
            return false;
    return true;
}

static int by_cost(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    double dx = x->result.replica_seconds, dy = y->result.replica_seconds;
    return dx < dy ? -1 : dx > dy ? 1 : (int)x->result.misses - (int)y->result.misses;
}

static const char *rule_name(char rule) {
    return rule == 'i' ? "inferd" : rule == 'k' ? "knative" : "keda+hpa";
}

static void print_point(const struct point *at, uint32_t num_requests) {
    printf("%-9s %-44s %9.0f %7u %6.2f%% %8.2f %8.2f\n", rule_name(at->rule), at->label,
           at->result.replica_seconds, at->result.misses, 100.0 * at->result.misses / num_requests,
           at->result.ttft_p50, at->result.ttft_p99);
}

/* ours with the fewest misses for at most that cost; NULL: none is as cheap. */
static const struct point *at_cost(const struct points *p, double cost) {
    const struct point *best = NULL;
    for (uint32_t i = 0; i < p->num; i++) {
        const struct point *at = &p->all[i];
        if (is_ours(at) && at->result.replica_seconds <= cost &&
            (!best || at->result.misses < best->result.misses))
            best = at;
    }
    return best;
}

static const struct point *at_misses(const struct points *p, uint32_t misses) {
    const struct point *best = NULL;
    for (uint32_t i = 0; i < p->num; i++) {
        const struct point *at = &p->all[i];
        if (is_ours(at) && at->result.misses <= misses &&
            (!best || at->result.replica_seconds < best->result.replica_seconds))
            best = at;
    }
    return best;
}

/* Gives how many points of the comparators' front are not beaten. */
static uint32_t compare(const struct points *p, uint32_t num_requests) {
    uint32_t num_unbeaten = 0;
    printf("\n%-9s %-44s %9s %7s | inferd: late at the same cost, cost at the same late\n",
           "front of", "comparators", "cost", "late");
    for (uint32_t i = 0; i < p->num; i++) {
        const struct point *at = &p->all[i];
        if (is_ours(at) || !on_front(p, at))
            continue;
        const struct point *cost = at_cost(p, at->result.replica_seconds);
        const struct point *late = at_misses(p, at->result.misses);
        bool beaten = cost && late &&
                      (cost->result.misses < at->result.misses ||
                       late->result.replica_seconds < at->result.replica_seconds);
        bool equal = cost && cost->result.misses == at->result.misses;
        bool judged = at->result.misses <= num_requests / 2;
        num_unbeaten += judged && !beaten && !equal;
        printf("%-9s %-44s %9.0f %7u | %7d %+6.1f%% %9.0f %+6.1f%%%s\n", rule_name(at->rule),
               at->label, at->result.replica_seconds, at->result.misses,
               cost ? (int)cost->result.misses : -1,
               cost && at->result.misses ? 100.0 * cost->result.misses / at->result.misses - 100
                                         : 0,
               late ? late->result.replica_seconds : -1,
               late ? 100 * late->result.replica_seconds / at->result.replica_seconds - 100 : 0,
               beaten    ? ""
               : equal   ? "  equal"
               : !judged ? "  (not judged)"
                         : "  NOT BEATEN");
    }
    return num_unbeaten;
}

/* Cost to the right (logarithmic), late answers upwards (square root, so that zero has a place). */
static void plot(const struct points *p) {
    char rows[PLOT_ROWS][PLOT_COLUMNS + 1];
    double least = INFINITY, most = 0, late = 1;
    memset(rows, ' ', sizeof(rows));
    for (uint32_t i = 0; i < p->num; i++) {
        const struct replay_result *r = &p->all[i].result;
        if (!on_front(p, &p->all[i]))
            continue;
        least = r->replica_seconds < least ? r->replica_seconds : least;
        most = r->replica_seconds > most ? r->replica_seconds : most;
        late = r->misses > late ? r->misses : late;
    }
    for (uint32_t i = 0; i < p->num; i++) {
        const struct point *at = &p->all[i];
        if (!on_front(p, at))
            continue;
        double x = log(at->result.replica_seconds / least) / log(most / least + 1e-9);
        double y = sqrt(at->result.misses / late);
        rows[PLOT_ROWS - 1 - (int)(y * (PLOT_ROWS - 1))][(int)(x * (PLOT_COLUMNS - 1))] = at->rule;
    }
    printf("\nlate answers (up to %.0f) over replica-seconds (%.0f .. %.0f); fronts: "
           "i inferd, k knative, h keda+hpa\n",
           late, least, most);
    for (int i = 0; i < PLOT_ROWS; i++)
        printf("|%.*s\n", PLOT_COLUMNS, rows[i]);
    printf("+%.*s\n", PLOT_COLUMNS,
           "------------------------------------------------------------------------");
}

static uint32_t replay(const struct replay_trace *t, const char *path, double start_seconds,
                       bool all) {
    struct replay_speed s = replay_speed_for(t, start_seconds);
    static struct points p;
    p = (struct points){0};
    printf("\n== %s: %u requests in %.0f s; a replica computes %.0f prompt tokens/s and starts in "
           "%g s\n",
           path, t->num, t->seconds, s.prefill_rate, start_seconds);
    sweep_inference(t, &s, &p);
    sweep_kpa(t, &s, &p);
    sweep_keda(t, &s, &p);
    qsort(p.all, p.num, sizeof(p.all[0]), by_cost);
    printf("%-9s %-44s %9s %7s %7s %8s %8s\n", "rule", "knobs", "cost", "late", "", "ttft p50",
           "p99");
    for (uint32_t i = 0; i < p.num; i++)
        if (all || (is_ours(&p.all[i]) && on_front(&p, &p.all[i])))
            print_point(&p.all[i], t->num);
    uint32_t num_unbeaten = compare(&p, t->num);
    plot(&p);
    return num_unbeaten;
}

/* The windows are full and the load moves, as in a daemon that has run for a while. */
static int time_decisions(uint32_t num) {
    enum { WARM_SECONDS = 600, ROUNDS = 100 };
    struct inference **rules = mem_array(num, sizeof(struct inference *));
    struct kpa **kpas = mem_array(num, sizeof(struct kpa *));
    struct inference_spec spec = inference_spec_default();
    struct kpa_spec kpa = kpa_spec_default();
    int64_t total_ns[2] = {0}, sum = 0;
    spec.max_replicas = 8;
    for (uint32_t i = 0; i < num; i++) {
        rules[i] = inference_create(&spec);
        kpas[i] = kpa_create(&kpa);
    }
    for (int t = 0; t < WARM_SECONDS + ROUNDS; t++) {
        int64_t start_ns = clock_mono_ns();
        for (uint32_t i = 0; i < num; i++) {
            struct replay_view v = {.now_ms = t * 1000,
                                    .in_flight = (t * 7 + (int)i) % 50,
                                    .ready = 3,
                                    .current = 3,
                                    .start_ms = 20000};
            sum += decide_inference(rules[i], &v);
        }
        int64_t middle_ns = clock_mono_ns();
        for (uint32_t i = 0; i < num; i++) {
            struct scale_decision d;
            kpa_record(kpas[i], t * 1000, (t * 7 + (int)i) % 50);
            kpa_decide(kpas[i], t * 1000, 3, 3, &d);
            sum += d.replicas;
        }
        total_ns[0] += t < WARM_SECONDS ? 0 : middle_ns - start_ns;
        total_ns[1] += t < WARM_SECONDS ? 0 : clock_mono_ns() - middle_ns;
    }
    printf("%u services: inferd's rule %.3f ms, knative's %.3f ms (sum of replicas %lld)\n", num,
           (double)total_ns[0] / ROUNDS / 1e6, (double)total_ns[1] / ROUNDS / 1e6, (long long)sum);
    for (uint32_t i = 0; i < num; i++) {
        inference_destroy(rules[i]);
        kpa_destroy(kpas[i]);
    }
    free(rules);
    free(kpas);
    return 0;
}

int main(int argc, char **argv) {
    double start_seconds = 20;
    bool all = false;
    uint32_t num_unbeaten = 0;
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--start") && i + 1 < argc)
            start_seconds = strtod(argv[++i], NULL);
        else if (!strcmp(argv[i], "--decisions") && i + 1 < argc)
            return time_decisions((uint32_t)strtoul(argv[i + 1], NULL, 10));
        else if (!strcmp(argv[i], "--all"))
            all = true;
        else
            break;
    }
    if (i >= argc || argv[i][0] == '-' || !(start_seconds > 0)) {
        fprintf(stderr, "usage: scale_replay [--start SECONDS] [--all] TRACE...\n"
                        "       scale_replay --decisions N\n");
        return 2;
    }
    for (; i < argc; i++) {
        struct replay_trace trace;
        struct error err = ERROR_INIT;
        if (replay_trace_read(argv[i], &trace, &err)) {
            fprintf(stderr, "scale_replay: %s\n", err.text);
            return 2;
        }
        num_unbeaten += replay(&trace, argv[i], start_seconds, all);
        replay_trace_deinit(&trace);
    }
    printf("\n%u points of the comparators' fronts are not beaten\n", num_unbeaten);
    return num_unbeaten ? 1 : 0;
}
