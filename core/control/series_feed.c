/* From pages of metrics to series.
 *
 *   registries ──text──┐
 *                      ├─ exposition_read ─▶ labels + where from ─▶ series_put
 *   replica's socket ──┘
 *
 * One way for all: the daemon's own registries are written and read as text too, so that what a
 * rule sees is what a Prometheus beside it would scrape. A look at a replica begins at a tick and
 * ends with its answer; one that is still under way at the next tick is not begun again. The time
 * of all samples of a look is that of its tick. */
#include "core/control/series_feed.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/series/exposition.h"

enum { OWN_LABELS = 4, NAME_BYTES_MAX = 256 };

static const struct metric_family num_series = {
    .type = METRIC_GAUGE,
    .name = "inferd_series",
    .help = "Series of inferd's own metrics that are kept in memory.",
};
static const struct metric_family memory_bytes = {
    .type = METRIC_GAUGE,
    .name = "inferd_series_memory_bytes",
    .help = "Memory of the series that are kept.",
};
static const struct metric_family refused_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_series_samples_refused_total",
    .help = "Samples of new series that found no room.",
};
static const struct metric_family shortened_total = {
    .type = METRIC_COUNTER,
    .name = "inferd_series_samples_shortened_total",
    .help = "Samples that took the place of one that would have been kept.",
};

struct target { /* a replica */
    struct target *next;
    struct series_feed *feed;
    struct series_source *source;
    char *ns, *service, *revision, *pod, *address;
    int64_t look_ms; /* of the look under way */
    bool asking;     /* its answer has not come */
    bool found;      /* in this tick's traffic table */
};

struct series_feed {
    struct series_feed_options opt;
    struct http_getter *getter;
    struct series_source *own;
    struct target *targets;
    bool refusing; /* said so in the log */
    pthread_t thread;
    bool thread_started;
    atomic_bool stopping;
};

/* ---- putting a page ---- */

struct page {
    struct series_feed *feed;
    struct series_source *source;
    const struct target *target; /* NULL: the daemon */
    int64_t at_ms;
    bool refused;
};

static uint32_t labels_of(const struct target *t, struct label *out) {
    if (!t)
        return 0;
    out[0] = (struct label){"namespace", t->ns};
    out[1] = (struct label){"inferenceservice", t->service};
    out[2] = (struct label){"revision", t->revision};
    out[3] = (struct label){"pod", t->pod};
    return OWN_LABELS;
}

static bool is_own(const struct label *own, uint32_t num, const char *name) {
    for (uint32_t i = 0; i < num; i++) {
        if (!strcmp(own[i].name, name))
            return true;
    }
    return false;
}

static void put(struct page *p, const struct label *labels, uint32_t num, double value) {
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (!series_put(p->source, labels, num, p->at_ms, value, &err))
        return;
    if (!p->feed->refusing)
        log_warn("the table of series is full, going on without new ones", "error=%s",
                 log_quote(&q, err.text));
    p->refused = p->feed->refusing = true;
}

static void put_sample(void *user, const struct label *labels, uint32_t num, double value) {
    struct page *p = user;
    struct label all[LABELS_MAX];
    char renamed[OWN_LABELS][NAME_BYTES_MAX];
    uint32_t num_own = labels_of(p->target, all), num_renamed = 0;
    if (num + num_own > LABELS_MAX)
        return; /* no page of ours is like this */
    for (uint32_t i = 0; i < num; i++) {
        struct label *to = &all[num_own + i];
        *to = labels[i];
        if (is_own(all, num_own, labels[i].name) && num_renamed < OWN_LABELS) {
            snprintf(renamed[num_renamed], NAME_BYTES_MAX, "exported_%.200s", labels[i].name);
            to->name = renamed[num_renamed++];
        }
    }
    put(p, all, num + num_own, value);
}

static void put_up(struct page *p, bool up) {
    struct label labels[OWN_LABELS + 1];
    uint32_t num = labels_of(p->target, labels);
    labels[num++] = (struct label){LABEL_NAME, "up"};
    put(p, labels, num, up);
}

static void end_page(struct page *p) {
    series_source_end(p->source, p->at_ms);
}

/* ---- the daemon's own ---- */

static void say(struct series_feed *f, const struct metric_family *family, double value) {
    metric_set(metrics_get(f->opt.metrics, family, NULL), value);
}

static void look_at_own(struct series_feed *f, int64_t wall_ms) {
    struct page p = {.feed = f, .source = f->own, .at_ms = wall_ms};
    struct series_stats stats;
    struct error err = ERROR_INIT;
    series_stats(f->opt.series, &stats);
    AUTO_BUF text = BUF_INIT;
    if (f->opt.metrics) {
        say(f, &num_series, stats.num_series);
        say(f, &memory_bytes, (double)stats.bytes);
        say(f, &refused_total, (double)stats.refused);
        say(f, &shortened_total, (double)stats.shortened);
        metrics_write(f->opt.metrics, &text);
    }
    if (f->opt.api_metrics)
        metrics_write(f->opt.api_metrics, &text);
    if (text.len && exposition_read(text.data, text.len, put_sample, &p, &err))
        log_error("own metrics cannot be read", "error=\"%s\"", err.text);
    end_page(&p);
    f->refusing = f->refusing && p.refused; /* the log hears of the next time */
}

/* ---- replicas ---- */

static void target_free(struct target *t) {
    free(t->ns);
    free(t->service);
    free(t->revision);
    free(t->pod);
    free(t->address);
    free(t);
}

static void on_answer(void *user, const struct http_got *got) {
    struct target *t = user;
    t->asking = false;
    if (!t->source) { /* the replica has gone meanwhile */
        target_free(t);
        return;
    }
    struct page p = {.feed = t->feed, .source = t->source, .target = t, .at_ms = t->look_ms};
    struct error err = ERROR_INIT;
    bool up =
        got->status == 200 && !exposition_read(got->body, got->body_len, put_sample, &p, &err);
    put_up(&p, up);
    end_page(&p);
    if (!up)
        log_debug("metrics of a replica cannot be read", "pod=%s status=%d error=\"%s\"", t->pod,
                  got->status, got->error ? got->error : err.text);
}

static void ask(struct series_feed *f, struct target *t, int64_t wall_ms) {
    bool on_socket = t->address[0] == '/';
    AUTO_FREE char *url = mem_printf("http://%s/metrics", on_socket ? "localhost" : t->address);
    const struct http_get get = {
        .url = url, .uds_path = on_socket ? t->address : NULL, .timeout_ms = f->opt.timeout_ms};
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (t->asking)
        return; /* its time is nearly over */
    t->look_ms = wall_ms;
    t->asking = true;
    if (http_getter_ask(f->getter, &get, on_answer, t, &err)) {
        t->asking = false;
        log_warn("a replica's metrics are not asked for", "pod=%s error=%s", t->pod,
                 log_quote(&q, err.text));
    }
}

static struct target *find_target(struct series_feed *f, const struct traffic_service *s,
                                  const struct traffic_revision *rev,
                                  const struct traffic_replica *r) {
    for (struct target *t = f->targets; t; t = t->next) {
        if (!strcmp(t->pod, r->pod) && !strcmp(t->ns, s->ns) && !strcmp(t->address, r->address))
            return t;
    }
    struct target *t = mem_alloc(sizeof(*t));
    *t = (struct target){.next = f->targets,
                         .feed = f,
                         .source = series_source_open(f->opt.series),
                         .ns = mem_strdup(s->ns),
                         .service = mem_strdup(s->name),
                         .revision = mem_strdup(rev->name),
                         .pod = mem_strdup(r->pod),
                         .address = mem_strdup(r->address)};
    f->targets = t;
    return t;
}

/* An answer under way still points to it. */
static void leave_target(struct target *t, int64_t wall_ms) {
    series_source_close(steal(t->source), wall_ms);
    if (!t->asking)
        target_free(t);
}

static void look_at_replicas(struct series_feed *f, int64_t wall_ms) {
    AUTO(traffic_table) table = traffic_current(f->opt.traffic);
    for (uint32_t i = 0; i < table->num_services; i++) {
        const struct traffic_service *s = &table->services[i];
        for (uint32_t r = 0; r < s->num_revisions; r++) {
            const struct traffic_revision *rev = &s->revisions[r];
            for (uint32_t k = 0; k < rev->num_replicas; k++) {
                struct target *t = find_target(f, s, rev, rev->replicas[k]);
                t->found = true;
                ask(f, t, wall_ms);
            }
        }
    }
    for (struct target **p = &f->targets; *p;) {
        struct target *t = *p;
        if (t->found) {
            t->found = false;
            p = &t->next;
        } else {
            *p = t->next;
            leave_target(t, wall_ms);
        }
    }
}

void series_feed_look(struct series_feed *f, int64_t wall_ms) {
    look_at_own(f, wall_ms);
    look_at_replicas(f, wall_ms);
    series_sweep(f->opt.series, wall_ms);
    if (f->opt.after_look)
        f->opt.after_look(f->opt.user, wall_ms);
}

/* ---- the thread ---- */

static void *feed_thread(void *user) {
    struct series_feed *f = user;
    pthread_setname_np(pthread_self(), "series");
    int64_t next_ms = clock_mono_ms();
    while (!atomic_load(&f->stopping)) {
        int64_t now_ms = clock_mono_ms();
        if (now_ms >= next_ms) {
            series_feed_look(f, clock_wall_ms());
            next_ms += SERIES_FEED_MS;
            if (next_ms <= now_ms) /* the machine slept: no looks to catch up with */
                next_ms = now_ms + SERIES_FEED_MS;
        }
        int64_t wait_ms = next_ms - clock_mono_ms();
        http_getter_run(f->getter, wait_ms > 0 ? (int)wait_ms : 0);
    }
    return NULL;
}

enum errc series_feed_create(const struct series_feed_options *opt, struct series_feed **ret_f,
                             struct error *err) {
    AUTO(series_feed) f = mem_alloc(sizeof(*f));
    f->opt = *opt;
    if (!f->opt.timeout_ms)
        f->opt.timeout_ms = SERIES_FEED_TIMEOUT_MS;
    f->own = series_source_open(opt->series);
    enum errc rc = http_getter_create(&f->getter, err);
    if (!rc)
        *ret_f = steal(f);
    return rc;
}

enum errc series_feed_start(struct series_feed *f, struct error *err) {
    if (pthread_create(&f->thread, NULL, feed_thread, f))
        return err_set(err, ERR_INTERNAL, "start the series thread");
    f->thread_started = true;
    return OK;
}

void series_feed_destroy(struct series_feed *f) {
    if (!f)
        return;
    if (f->thread_started) {
        atomic_store(&f->stopping, true);
        http_getter_wake(f->getter);
        pthread_join(f->thread, NULL);
    }
    http_getter_destroy(f->getter); /* answers those who wait */
    while (f->targets) {
        struct target *t = f->targets;
        f->targets = t->next;
        leave_target(t, clock_wall_ms());
    }
    series_source_close(f->own, clock_wall_ms());
    free(f);
}

struct http_getter *series_feed_getter(struct series_feed *f) {
    return f->getter;
}
