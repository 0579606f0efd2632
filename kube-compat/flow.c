/* Start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", SIGCOMM 1996), over
 * identities as flows, as Kubernetes' API Priority and Fairness does over its queues.
 *
 * A request gets a start tag when it arrives: the virtual time, or where the identity's last
 * request ends if that is later; and it ends its cost further on. The next to run is the one with
 * the smallest start tag, and the virtual time is its tag. So an identity that sends a thousand
 * lists pushes its own tags far into the future, and the single request of another, tagged with
 * now, comes before all of them but those that run.
 *
 * Unlike API Priority and Fairness there is no shuffle sharding: that spreads many flows over few
 * queues by chance, for servers with tens of thousands of users. A site has as many queues as it
 * has users just now: an identity is known while it has something here, and its number is bounded
 * by that of connections.
 *
 * Two bounds besides. An identity runs at most identity_cost_max at once, a fraction of cost_max,
 * so that there is always room for somebody else without waiting; one request alone may be dearer
 * than the bound. And nothing passes a request that waits for room in cost_max only, else cheap
 * ones would keep a dear one out for ever. */
#include "kube-compat/flow.h"

enum { BUCKETS = 256 };

struct flow_identity {
    struct flow_identity *next; /* in its bucket */
    struct flow_identity *waiting_prev, *waiting_next;
    struct flow_request *first, *last; /* waiting, in order of arrival */
    uint64_t finish;                   /* virtual time at which what it has asked for ends */
    uint32_t cost, running, waiting, watches;
    char name[];
};

struct flow {
    struct flow_limits limits;
    struct flow_identity *buckets[BUCKETS];
    struct flow_identity *waiting; /* identities with requests that wait */
    uint64_t now;                  /* virtual time */
    uint64_t num_arrived;
    bool head_blocked; /* the next in turn waits for room in cost_max */
    struct flow_counts counts;
};

struct flow *flow_create(const struct flow_limits *limits) {
    struct flow *f = mem_alloc(sizeof(*f));
    f->limits = *limits;
    return f;
}

void flow_destroy(struct flow *f) {
    if (!f)
        return;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct flow_identity *id = f->buckets[i], *next; id; id = next) {
            next = id->next;
            free(id);
        }
    }
    free(f);
}

struct flow_counts flow_count(const struct flow *f) {
    return f->counts;
}

/* ---- identities ---- */

static size_t bucket_of(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *p = name; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    return hash % BUCKETS;
}

static struct flow_identity *find(const struct flow *f, const char *name) {
    struct flow_identity *id = f->buckets[bucket_of(name)];
    while (id && strcmp(id->name, name) != 0)
        id = id->next;
    return id;
}

static struct flow_identity *identity_of(struct flow *f, const char *name) {
    struct flow_identity *known = find(f, name);
    if (known)
        return known;
    struct flow_identity **head = &f->buckets[bucket_of(name)];
    size_t len = strlen(name);
    struct flow_identity *id = mem_alloc(sizeof(*id) + len + 1);
    memcpy(id->name, name, len + 1);
    id->next = *head;
    *head = id;
    f->counts.identities++;
    return id;
}

/* An identity without anything here is forgotten; its next request starts at the virtual time. */
static void forget_idle(struct flow *f, struct flow_identity *id) {
    if (id->running || id->waiting || id->watches)
        return;
    struct flow_identity **at = &f->buckets[bucket_of(id->name)];
    while (*at != id)
        at = &(*at)->next;
    *at = id->next;
    free(id);
    f->counts.identities--;
}

/* ---- requests ---- */

static bool fits_identity(const struct flow *f, const struct flow_identity *id, uint32_t cost) {
    return !id->running || id->cost + cost <= f->limits.identity_cost_max;
}

static bool fits_all(const struct flow *f, uint32_t cost) {
    return !f->counts.running || f->counts.cost + cost <= f->limits.cost_max;
}

static void run(struct flow *f, struct flow_request *r) {
    struct flow_identity *id = r->identity;
    id->running++;
    id->cost += r->cost;
    f->counts.running++;
    f->counts.cost += r->cost;
    if (r->start > f->now)
        f->now = r->start;
}

static void enqueue(struct flow *f, struct flow_request *r) {
    struct flow_identity *id = r->identity;
    r->next = NULL;
    if (id->last) {
        id->last->next = r;
    } else {
        id->first = r;
        id->waiting_prev = NULL;
        id->waiting_next = f->waiting;
        if (f->waiting)
            f->waiting->waiting_prev = id;
        f->waiting = id;
    }
    id->last = r;
    id->waiting++;
    f->counts.waiting++;
}

static struct flow_request *dequeue(struct flow *f, struct flow_identity *id) {
    struct flow_request *r = id->first;
    id->first = r->next;
    id->waiting--;
    f->counts.waiting--;
    if (id->first)
        return r;
    id->last = NULL;
    if (id->waiting_prev)
        id->waiting_prev->waiting_next = id->waiting_next;
    else
        f->waiting = id->waiting_next;
    if (id->waiting_next)
        id->waiting_next->waiting_prev = id->waiting_prev;
    return r;
}

enum flow_verdict flow_arrive(struct flow *f, const char *identity, uint32_t cost,
                              struct flow_request *r) {
    struct flow_identity *id = identity_of(f, identity);
    ASSERT(cost);
    bool runs = !id->waiting && !f->head_blocked && fits_identity(f, id, cost) && fits_all(f, cost);
    if (!runs && (id->waiting >= f->limits.identity_waiting_max ||
                  f->counts.waiting >= f->limits.waiting_max)) {
        forget_idle(f, id);
        return FLOW_REFUSE;
    }
    *r = (struct flow_request){.identity = id,
                               .cost = cost,
                               .start = id->finish > f->now ? id->finish : f->now,
                               .order = f->num_arrived++};
    id->finish = r->start + cost;
    if (!runs) {
        enqueue(f, r);
        return FLOW_WAIT;
    }
    run(f, r);
    return FLOW_RUN;
}

static bool before(const struct flow_request *a, const struct flow_request *b) {
    return a->start != b->start ? a->start < b->start : a->order < b->order;
}

struct flow_request *flow_next(struct flow *f) {
    struct flow_identity *best = NULL;
    for (struct flow_identity *id = f->waiting; id; id = id->waiting_next) {
        if (fits_identity(f, id, id->first->cost) && (!best || before(id->first, best->first)))
            best = id;
    }
    f->head_blocked = best && !fits_all(f, best->first->cost);
    if (!best || f->head_blocked)
        return NULL;
    struct flow_request *r = dequeue(f, best);
    run(f, r);
    return r;
}

struct flow_request *flow_take(struct flow *f) {
    if (!f->waiting)
        return NULL;
    struct flow_identity *id = f->waiting;
    struct flow_request *r = dequeue(f, id);
    forget_idle(f, id);
    r->identity = NULL;
    return r;
}

void flow_done(struct flow *f, struct flow_request *r) {
    struct flow_identity *id = r->identity;
    ASSERT(id && id->running && id->cost >= r->cost);
    id->running--;
    id->cost -= r->cost;
    f->counts.running--;
    f->counts.cost -= r->cost;
    r->identity = NULL;
    forget_idle(f, id);
}

bool flow_has_running(const struct flow *f, const char *identity) {
    const struct flow_identity *id = find(f, identity);
    return id && id->running;
}

/* ---- watches ---- */

bool flow_watch_open(struct flow *f, const char *identity, struct flow_identity **ret_identity) {
    struct flow_identity *id = identity_of(f, identity);
    if (id->watches >= f->limits.identity_watches_max) {
        forget_idle(f, id);
        return false;
    }
    id->watches++;
    f->counts.watches++;
    *ret_identity = id;
    return true;
}

void flow_watch_close(struct flow *f, struct flow_identity *id) {
    ASSERT(id->watches);
    id->watches--;
    f->counts.watches--;
    forget_idle(f, id);
}
