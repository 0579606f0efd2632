/* The traffic table: snapshots by reference count, and the pick.
 *
 * The mutex guards one pointer; a reader holds it for as long as it takes to count a reference. A
 * second mutex covers the listeners while they are called, so that leaving one off waits for a call
 * that is under way.
 */
#include "core/control/traffic.h"

#include <pthread.h>
#include <stdatomic.h>

struct listener {
    traffic_changed_fn *fn;
    void *user;
};

struct traffic {
    pthread_mutex_t lock;
    struct traffic_table *table;
    uint64_t version;
    pthread_mutex_t listeners_lock;
    struct listener listeners[TRAFFIC_LISTENERS_MAX];
    _Atomic bool asked;
    struct listener waker; /* guarded by listeners_lock */
};

/* ---- replicas and tables ---- */

struct traffic_replica *traffic_replica_create(const char *pod, const char *address) {
    struct traffic_replica *r = mem_alloc(sizeof(*r));
    r->refs = 1;
    r->pod = mem_strdup(pod);
    r->address = mem_strdup(address);
    return r;
}

struct traffic_replica *traffic_replica_ref(struct traffic_replica *r) {
    r->refs++;
    return r;
}

void traffic_replica_unref(struct traffic_replica *r) {
    if (!r || --r->refs)
        return;
    free(r->pod);
    free(r->address);
    free(r);
}

struct traffic_turn *traffic_turn_create(void) {
    struct traffic_turn *t = mem_alloc(sizeof(*t));
    t->refs = 1;
    return t;
}

struct traffic_turn *traffic_turn_ref(struct traffic_turn *t) {
    t->refs++;
    return t;
}

void traffic_turn_unref(struct traffic_turn *t) {
    if (!t || --t->refs)
        return;
    traffic_credits_deinit(&t->credits);
    free(t);
}

struct traffic_table *traffic_table_create(void) {
    struct traffic_table *table = mem_alloc(sizeof(*table));
    table->refs = 1;
    table->arena = arena_create();
    return table;
}

void traffic_table_unref(struct traffic_table *table) {
    if (!table || --table->refs)
        return;
    for (uint32_t i = 0; i < table->num_services; i++) {
        const struct traffic_service *s = &table->services[i];
        traffic_turn_unref(s->turn);
        for (uint32_t j = 0; j < s->num_revisions; j++)
            for (uint32_t k = 0; k < s->revisions[j].num_replicas; k++)
                traffic_replica_unref(s->revisions[j].replicas[k]);
    }
    arena_destroy(table->arena);
    free(table);
}

const struct traffic_service *traffic_find(const struct traffic_table *table, const char *ns,
                                           const char *name) {
    uint32_t low = 0, high = table->num_services;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        const struct traffic_service *s = &table->services[mid];
        int order = strcmp(s->ns, ns);
        order = order ? order : strcmp(s->name, name);
        if (!order)
            return s;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

uint32_t traffic_num_ready(const struct traffic_service *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->num_revisions; i++)
        n += s->revisions[i].num_replicas;
    return n;
}

/* ---- the place where the table hangs ---- */

struct traffic *traffic_create(void) {
    struct traffic *t = mem_alloc(sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    pthread_mutex_init(&t->listeners_lock, NULL);
    t->table = traffic_table_create();
    return t;
}

void traffic_destroy(struct traffic *t) {
    if (!t)
        return;
    traffic_table_unref(t->table);
    pthread_mutex_destroy(&t->listeners_lock);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void traffic_publish(struct traffic *t, struct traffic_table *table) {
    pthread_mutex_lock(&t->lock);
    struct traffic_table *was = t->table;
    table->version = ++t->version;
    t->table = table;
    pthread_mutex_unlock(&t->lock);
    traffic_table_unref(was);
    pthread_mutex_lock(&t->listeners_lock);
    for (int i = 0; i < TRAFFIC_LISTENERS_MAX; i++)
        if (t->listeners[i].fn)
            t->listeners[i].fn(t->listeners[i].user);
    pthread_mutex_unlock(&t->listeners_lock);
}

struct traffic_table *traffic_current(struct traffic *t) {
    pthread_mutex_lock(&t->lock);
    struct traffic_table *table = t->table;
    table->refs++;
    pthread_mutex_unlock(&t->lock);
    return table;
}

void traffic_on_change(struct traffic *t, traffic_changed_fn *fn, void *user) {
    pthread_mutex_lock(&t->listeners_lock);
    int i = 0;
    while (i < TRAFFIC_LISTENERS_MAX && t->listeners[i].fn)
        i++;
    ASSERT(i < TRAFFIC_LISTENERS_MAX);
    t->listeners[i] = (struct listener){.fn = fn, .user = user};
    pthread_mutex_unlock(&t->listeners_lock);
}

void traffic_off_change(struct traffic *t, void *user) {
    pthread_mutex_lock(&t->listeners_lock);
    for (int i = 0; i < TRAFFIC_LISTENERS_MAX; i++)
        if (t->listeners[i].user == user)
            t->listeners[i] = (struct listener){0};
    pthread_mutex_unlock(&t->listeners_lock);
}

void traffic_on_ask(struct traffic *t, void (*wake)(void *user), void *user) {
    pthread_mutex_lock(&t->listeners_lock);
    t->waker = (struct listener){.fn = wake, .user = user};
    pthread_mutex_unlock(&t->listeners_lock);
}

void traffic_ask(struct traffic *t, struct traffic_turn *turn) {
    if (turn->load.waiting)
        return; /* it has been told, and has not looked yet */
    turn->load.waiting = true;
    t->asked = true;
    pthread_mutex_lock(&t->listeners_lock);
    if (t->waker.fn)
        t->waker.fn(t->waker.user);
    pthread_mutex_unlock(&t->listeners_lock);
}

bool traffic_take_asked(struct traffic *t) {
    return atomic_exchange(&t->asked, false);
}

/* ---- the pick ---- */

/* The replica with the fewest requests that may take one more; ties go round with the ticket. */
static struct traffic_replica *least_loaded(const struct traffic_revision *rev, uint32_t limit,
                                            uint64_t ticket, const struct traffic_replica *except) {
    struct traffic_replica *best = NULL;
    uint32_t best_in_flight = 0;
    /* Mixed, because the low digits of the ticket have chosen the revision already. */
    uint32_t first = (uint32_t)((ticket * 0x9e3779b97f4a7c15u) >> 32);
    for (uint32_t i = 0; i < rev->num_replicas; i++) {
        struct traffic_replica *r = rev->replicas[(first + i) % rev->num_replicas];
        uint32_t in_flight = atomic_load_explicit(&r->in_flight, memory_order_relaxed);
        if (r == except || r->draining || (limit && in_flight >= limit))
            continue;
        if (!best || in_flight < best_in_flight) {
            best = r;
            best_in_flight = in_flight;
        }
    }
    return best;
}

/* Those with weight and a replica; whether one has room is seen when its turn comes. */
static struct traffic_candidate *candidates(const struct traffic_service *s) {
    struct traffic_candidate *of = mem_array(s->num_revisions + 1, sizeof(*of));
    for (uint32_t i = 0; i < s->num_revisions; i++) {
        of[i].id = traffic_credit_id(s->revisions[i].name);
        of[i].weight = s->revisions[i].num_replicas ? s->revisions[i].percent : 0;
    }
    return of;
}

struct traffic_replica *traffic_pick(const struct traffic_service *s,
                                     struct traffic_credits *credits, uint64_t ticket,
                                     const struct traffic_replica *except,
                                     const struct traffic_revision **ret_revision) {
    AUTO_FREE struct traffic_candidate *of = candidates(s);
    struct traffic_replica *r = NULL;
    int next;
    while (!r && (next = traffic_credits_next(credits, of, s->num_revisions)) >= 0) {
        r = least_loaded(&s->revisions[next], s->container_concurrency, ticket, except);
        if (!r)
            of[next].weight = 0;
    }
    if (!r)
        return NULL;
    traffic_credits_pay(credits, of, s->num_revisions, (uint32_t)next);
    if (ret_revision)
        *ret_revision = &s->revisions[next];
    return r;
}

struct traffic_replica *traffic_pick_sticky(const struct traffic_service *s, uint64_t client,
                                            const struct traffic_replica *except,
                                            const struct traffic_revision **ret_revision) {
    AUTO_FREE struct traffic_candidate *of = candidates(s);
    int chosen;
    while ((chosen = traffic_credits_sticky(client, of, s->num_revisions)) >= 0) {
        const struct traffic_revision *rev = &s->revisions[chosen];
        struct traffic_replica *r = least_loaded(rev, s->container_concurrency, client, except);
        if (r && ret_revision)
            *ret_revision = rev;
        if (r)
            return r;
        of[chosen].weight = 0;
    }
    return NULL;
}

const struct traffic_revision *traffic_find_revision(const struct traffic_service *s,
                                                     const char *name) {
    for (uint32_t i = 0; i < s->num_revisions; i++) {
        if (s->revisions[i].num_replicas && !strcmp(s->revisions[i].name, name))
            return &s->revisions[i];
    }
    return NULL;
}

const struct traffic_tag *traffic_find_tag(const struct traffic_service *s, const char *name) {
    for (uint32_t i = 0; i < s->num_tags; i++) {
        if (!strcmp(s->tags[i].name, name))
            return &s->tags[i];
    }
    return NULL;
}

struct traffic_replica *traffic_pick_within(const struct traffic_service *s,
                                            const struct traffic_revision *revision,
                                            uint64_t ticket, const struct traffic_replica *except) {
    return least_loaded(revision, s->container_concurrency, ticket, except);
}
