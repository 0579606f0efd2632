/* The traffic table: what the gateway knows. An immutable snapshot that the control thread makes
 * anew when something changes; readers take a reference and never lock for longer than that.
 *
 * Replicas are shared between snapshots, so that their in-flight counters survive a change. */
#ifndef CORE_CONTROL_TRAFFIC_H
#define CORE_CONTROL_TRAFFIC_H

#include "core/auth_keys.h"
#include "core/base/mem.h"
#include "core/control/traffic_credit.h"
#include "core/control/traffic_load.h"

struct traffic_replica {
    _Atomic uint32_t refs;
    _Atomic uint32_t in_flight; /* requests now; the gateway counts */
    _Atomic uint64_t requests_total;
    _Atomic bool draining; /* it told the gateway that it takes no more requests: not picked */
    char *pod;             /* pod name */
    char *address;         /* where it serves HTTP/1.1: the path of a socket, or "127.0.0.1:PORT" */
};

/* Where the pick of one service stands, and what it is asked for. Shared between snapshots as well,
 * so that the shares are exact across a change and whatever other services are asked. */
struct traffic_turn {
    _Atomic uint32_t refs;
    _Atomic uint64_t next_ticket;
    struct traffic_credits credits; /* the gateway's relay alone */
    struct traffic_load load;
};

struct traffic_revision {
    const char *name; /* "demo-predictor-00001" */
    uint32_t percent;
    struct traffic_replica **replicas; /* ready ones */
    uint32_t num_replicas;
};

/* A name for one revision, which has hosts and paths of its own: "latest", "prev", a canary's. */
struct traffic_tag {
    const char *name;
    const char *revision;     /* may have no ready replicas */
    const char *const *hosts; /* NULL-terminated */
};

struct traffic_service {
    const char *ns, *name;     /* of the InferenceService */
    const char *const *hosts;  /* NULL-terminated: demo.default.DOMAIN, demo-predictor.default... */
    const char *const *models; /* NULL-terminated: served model names */
    const char *not_ready_reason; /* why there is no replica, for the 503's message; NULL: ready */
    const struct auth_keys *keys; /* a request must bear one of them; NULL: anybody may ask */
    const char *keys_fault;       /* why there is none to bear; NULL: no such reason */
    const char *replica_key;      /* what replicas ask for themselves; NULL: the client's */
    struct traffic_turn *turn;    /* a reference; may be NULL where nothing is picked */
    struct traffic_revision *revisions;
    uint32_t num_revisions;
    const struct traffic_tag *tags;
    uint32_t num_tags;
    const char *sticky_header;      /* clients are told apart by it; NULL: they are not */
    uint32_t container_concurrency; /* requests per replica at once; 0: unbounded */
    bool waiting_may_help;          /* replicas are starting: hold the request within bounds */
};

struct traffic_table {
    _Atomic uint32_t refs;
    uint64_t version;
    struct arena *arena;              /* all of the above but replicas and turns */
    struct traffic_service *services; /* sorted by ns, name */
    uint32_t num_services;
};

/* The place where the current table hangs. */
struct traffic;
struct traffic *traffic_create(void);
void traffic_destroy(struct traffic *t);
DEFINE_AUTO(traffic, traffic_destroy)

void traffic_publish(struct traffic *t, struct traffic_table *table); /* takes; wakes waiters */
struct traffic_table *traffic_current(struct traffic *t);             /* shares; never NULL */
void traffic_table_unref(struct traffic_table *table);
DEFINE_AUTO(traffic_table, traffic_table_unref)

/* Called (from the control thread) after each publish; for holds that wait for a replica. It must
 * not block. At most TRAFFIC_LISTENERS_MAX. After traffic_off_change() has returned, fn is not
 * called for that user any more. */
enum { TRAFFIC_LISTENERS_MAX = 8 };
typedef void traffic_changed_fn(void *user);
void traffic_on_change(struct traffic *t, traffic_changed_fn *fn, void *user);
void traffic_off_change(struct traffic *t, void *user);

/* A request of the service waits and no replica is there: tells the one who starts replicas, from
 * any thread. `wake` must not block; NULL: nobody listens. */
void traffic_ask(struct traffic *t, struct traffic_turn *turn);
void traffic_on_ask(struct traffic *t, void (*wake)(void *user), void *user);
/* True once after any traffic_ask(): some turn's load.waiting is set. */
bool traffic_take_asked(struct traffic *t);

struct traffic_table *traffic_table_create(void); /* empty; version and arena set */
struct traffic_replica *traffic_replica_create(const char *pod, const char *address);
struct traffic_replica *traffic_replica_ref(struct traffic_replica *r);
void traffic_replica_unref(struct traffic_replica *r);
struct traffic_turn *traffic_turn_create(void);
struct traffic_turn *traffic_turn_ref(struct traffic_turn *t);
void traffic_turn_unref(struct traffic_turn *t); /* NULL is fine */

/* Pure pick: revision by weight (traffic_credit.h; `credits` remember what was given), then the
 * ready replica with the fewest in flight, ties by `ticket`, leaving out `except` (it just failed;
 * NULL: none). A revision with weight but without a replica that has room leaves its share to the
 * others. NULL when none has room. Borrowed from the table; ret_revision may be NULL. */
struct traffic_replica *traffic_pick(const struct traffic_service *s,
                                     struct traffic_credits *credits, uint64_t ticket,
                                     const struct traffic_replica *except,
                                     const struct traffic_revision **ret_revision);
/* The same for a client that is to stay with its revision, as long as that has weight and room. */
struct traffic_replica *traffic_pick_sticky(const struct traffic_service *s, uint64_t client,
                                            const struct traffic_replica *except,
                                            const struct traffic_revision **ret_revision);

/* The revision of that name, with its share or without; NULL: none has ready replicas. Borrowed. */
const struct traffic_revision *traffic_find_revision(const struct traffic_service *s,
                                                     const char *name);
/* NULL: the service has no such tag. Borrowed. */
const struct traffic_tag *traffic_find_tag(const struct traffic_service *s, const char *name);
/* The pick within one revision, whatever its share. */
struct traffic_replica *traffic_pick_within(const struct traffic_service *s,
                                            const struct traffic_revision *revision,
                                            uint64_t ticket, const struct traffic_replica *except);

/* NULL: no such service. Borrowed from the table. */
const struct traffic_service *traffic_find(const struct traffic_table *table, const char *ns,
                                           const char *name);
uint32_t traffic_num_ready(const struct traffic_service *s); /* replicas of all revisions */

#endif
