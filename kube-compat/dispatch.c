/* The threads behind the fair queue.
 *
 *   HTTP thread ──cheap, and fits──▶ served there and then
 *       │ else
 *       ├──fits──▶ ready ──▶ a thread of the pool serves it
 *       └──────▶ flow's queues ──its turn──▶ ready
 *
 * An HTTP thread stands for all connections that libmicrohttpd gave it, so it must never be the one
 * that prints a long list. While a request waits, its connection is parked and costs no thread;
 * what is ready was let in by the decider, so the order of `ready` matters no more.
 *
 * One lock over the decider and `ready`, held for a few instructions; serving happens outside of
 * it. A ticket has two ends, which come in any order: it was served (what it cost is free again),
 * and its answer has ended (a watch goes on after it was served). */
#include "kube-compat/dispatch.h"

#include <errno.h>
#include <pthread.h>

#include "core/base/clock.h"

static const struct metric_family EXECUTING = {
    .type = METRIC_GAUGE,
    .name = "apiserver_flowcontrol_current_executing_requests",
    .help = "Requests that run.",
};
static const struct metric_family IN_QUEUE = {
    .type = METRIC_GAUGE,
    .name = "apiserver_flowcontrol_current_inqueue_requests",
    .help = "Requests that wait for their turn.",
};
static const struct metric_family DISPATCHED = {
    .type = METRIC_COUNTER,
    .name = "apiserver_flowcontrol_dispatched_requests_total",
    .help = "Requests that were let in.",
};
static const struct metric_family REJECTED = {
    .type = METRIC_COUNTER,
    .name = "apiserver_flowcontrol_rejected_requests_total",
    .help = "Requests answered 429: too many of the identity wait (queue-full) or are watched "
            "(watches).",
    .labels = {"reason"},
};
static const struct metric_family WAITED = {
    .type = METRIC_HISTOGRAM,
    .name = "apiserver_flowcontrol_request_wait_duration_seconds",
    .help = "How long requests that had to wait did so.",
    .buckets = {0.001, 0.005, 0.025, 0.1, 0.25, 1, 5, 15, 60},
};
static const struct metric_family LONG_RUNNING = {
    .type = METRIC_GAUGE,
    .name = "apiserver_longrunning_requests",
    .help = "Open watches and log streams.",
};

struct dispatch {
    dispatch_serve_fn *serve;
    struct flow_limits limits;
    struct metric *executing, *in_queue, *dispatched, *queue_full, *too_many_watches, *waited,
        *long_running;
    pthread_t threads[DISPATCH_THREADS];
    size_t num_threads;

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t work;
    struct flow *flow;
    struct ticket *ready, **ready_end;
    unsigned num_woken; /* tickets that became ready under this hold of the lock */
    bool stop;
};

struct ticket *dispatch_ticket(struct kube *kube, struct http_exchange *x) {
    struct ticket *t = mem_alloc(sizeof(*t));
    t->kube = kube;
    t->x = x;
    t->refs = 2;
    return t;
}

static void ticket_unref(struct ticket *t) {
    if (!--t->refs)
        free(t);
}

static struct ticket *ticket_of(struct flow_request *r) {
    return (struct ticket *)((char *)r - offsetof(struct ticket, flow));
}

/* ---- under the lock ---- */

static void show_counts(struct dispatch *d) {
    struct flow_counts c = flow_count(d->flow);
    metric_set(d->executing, c.running);
    metric_set(d->in_queue, c.waiting);
    metric_set(d->long_running, c.watches);
}

static void make_ready(struct dispatch *d, struct ticket *t) {
    t->next = NULL;
    *d->ready_end = t;
    d->ready_end = &t->next;
    d->num_woken++;
}

/* Wakes after the lock is free, else who wakes up waits for it. */
static void unlock(struct dispatch *d) {
    unsigned num = d->num_woken;
    d->num_woken = 0;
    pthread_mutex_unlock(&d->lock);
    while (num--)
        pthread_cond_signal(&d->work);
}

/* Moves on whoever's turn has come. */
static void let_in(struct dispatch *d) {
    for (struct flow_request *r; !d->stop && (r = flow_next(d->flow));) {
        struct ticket *t = ticket_of(r);
        metric_observe(d->waited, (double)(clock_mono_ns() - t->arrived_ns) / 1e9);
        metric_add(d->dispatched, 1);
        make_ready(d, t);
    }
    show_counts(d);
}

static struct ticket *take_ready(struct dispatch *d) {
    struct ticket *t = d->ready;
    if (!t)
        return NULL;
    d->ready = t->next;
    if (!d->ready)
        d->ready_end = &d->ready;
    return t;
}

/* ---- threads ---- */

/* Under the lock. */
static void served(struct dispatch *d, struct ticket *t) {
    if (t->flow.identity) {
        flow_done(d->flow, &t->flow);
        let_in(d);
    }
    ticket_unref(t);
}

static void *run(void *user) {
    struct dispatch *d = user;
    pthread_setname_np(pthread_self(), "kube-requests");
    pthread_mutex_lock(&d->lock);
    for (;;) {
        struct ticket *t = take_ready(d);
        if (t) {
            bool stopping = d->stop;
            unlock(d);
            d->serve(t, stopping);
            pthread_mutex_lock(&d->lock);
            served(d, t);
            if (d->num_woken)
                d->num_woken--; /* this thread takes it itself */
        } else if (d->stop) {
            break;
        } else {
            pthread_cond_wait(&d->work, &d->lock);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

enum errc dispatch_create(const struct dispatch_options *opt, struct dispatch **ret_d,
                          struct error *err) {
    static const char *const queue_full[] = {"queue-full"}, *const watches[] = {"watches"};
    AUTO(dispatch) d = mem_alloc(sizeof(*d));
    d->serve = opt->serve;
    d->limits = opt->limits;
    d->executing = metrics_get(opt->metrics, &EXECUTING, NULL);
    d->in_queue = metrics_get(opt->metrics, &IN_QUEUE, NULL);
    d->dispatched = metrics_get(opt->metrics, &DISPATCHED, NULL);
    d->queue_full = metrics_get(opt->metrics, &REJECTED, queue_full);
    d->too_many_watches = metrics_get(opt->metrics, &REJECTED, watches);
    d->waited = metrics_get(opt->metrics, &WAITED, NULL);
    d->long_running = metrics_get(opt->metrics, &LONG_RUNNING, NULL);
    d->flow = flow_create(&opt->limits);
    d->ready_end = &d->ready;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->work, NULL);
    for (; d->num_threads < DISPATCH_THREADS; d->num_threads++) {
        errno = pthread_create(&d->threads[d->num_threads], NULL, run, d);
        if (errno)
            return err_errno(err, "start the request threads");
    }
    *ret_d = steal(d);
    return OK;
}

void dispatch_stop(struct dispatch *d) {
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->stop = true;
    for (struct flow_request *r; (r = flow_take(d->flow));)
        make_ready(d, ticket_of(r)); /* a thread refuses it */
    pthread_cond_broadcast(&d->work);
    pthread_mutex_unlock(&d->lock);
    for (; d->num_threads; d->num_threads--)
        pthread_join(d->threads[d->num_threads - 1], NULL);
}

void dispatch_destroy(struct dispatch *d) {
    if (!d)
        return;
    dispatch_stop(d);
    flow_destroy(d->flow);
    pthread_cond_destroy(&d->work);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

/* ---- tickets ---- */

static enum errc refuse(struct metric *counter, struct error *err) {
    metric_add(counter, 1);
    err->retry_after_seconds = DISPATCH_RETRY_SECONDS;
    return err->code;
}

/* Under the lock: lets the ticket in, or queues it. */
static enum errc arrive(struct dispatch *d, struct ticket *t, const struct dispatch_request *rq,
                        bool *ret_here, struct error *err) {
    t->arrived_ns = clock_mono_ns();
    if (d->stop)
        return err_set(err, ERR_UNAVAILABLE, "the server is shutting down");
    if (rq->watch && !flow_watch_open(d->flow, rq->identity, &t->watch)) {
        err_set(err, ERR_EXHAUSTED,
                "too many requests: user \"%s\" has %u open watches and log streams, the most one "
                "user can have",
                rq->identity, d->limits.identity_watches_max);
        return refuse(d->too_many_watches, err);
    }
    bool alone = !flow_has_running(d->flow, rq->identity);
    switch (flow_arrive(d->flow, rq->identity, rq->cost, &t->flow)) {
    case FLOW_RUN:
        metric_add(d->dispatched, 1);
        *ret_here = rq->cost <= DISPATCH_QUICK_COST && (!rq->may_block || alone);
        if (!*ret_here)
            make_ready(d, t);
        return OK;
    case FLOW_WAIT:
        *ret_here = false;
        return OK;
    default:
        err_set(err, ERR_EXHAUSTED, "too many requests: %u of user \"%s\" wait already",
                d->limits.identity_waiting_max, rq->identity);
        return refuse(d->queue_full, err);
    }
}

enum errc dispatch_submit(struct dispatch *d, struct ticket *t, const struct dispatch_request *rq,
                          bool *ret_here, struct error *err) {
    pthread_mutex_lock(&d->lock);
    enum errc rc = arrive(d, t, rq, ret_here, err);
    show_counts(d);
    unlock(d);
    return rc;
}

void dispatch_served(struct dispatch *d, struct ticket *t) {
    pthread_mutex_lock(&d->lock);
    served(d, t);
    unlock(d);
}

void dispatch_ended(struct dispatch *d, struct ticket *t) {
    pthread_mutex_lock(&d->lock);
    if (t->watch) {
        flow_watch_close(d->flow, t->watch);
        show_counts(d);
    }
    pthread_mutex_unlock(&d->lock);
    ticket_unref(t);
}
