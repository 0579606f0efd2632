/* The triggers of a ScaledObject: what each looks at, and from what is found to a number. Triggers
 * are prometheus, metrics-api, cron, cpu and memory; others are refused by name. */
#ifndef CORE_CONTROL_TRIGGER_H
#define CORE_CONTROL_TRIGGER_H

#include <jansson.h>

#include "core/control/http_get.h"
#include "core/control/pod_autoscaler_spec.h"
#include "core/scale/cron.h"
#include "core/series/promql.h"

enum trigger_type {
    TRIGGER_PROMETHEUS,
    TRIGGER_METRICS_API,
    TRIGGER_CRON,
    TRIGGER_CPU,
    TRIGGER_MEMORY,
    TRIGGERS,
};

enum { TRIGGER_TIMEOUT_MS = 3000, TRIGGER_HEADERS_MAX = 8 };

struct trigger {
    enum trigger_type type;
    const json_t *json;          /* the item of spec.triggers; borrowed, as long as the trigger */
    char *metric_name;           /* "s0-prometheus"; of cpu and memory "cpu", "memory" */
    double threshold;            /* per replica, or (is_value) of all */
    double activation_threshold; /* above it the trigger is active */
    bool is_value;
    struct promql *query;   /* prometheus, over inferd's own series; NULL: a remote one is asked */
    struct cron start, end; /* cron */
    struct time_zone *zone;
    struct metric_spec resource; /* cpu, memory */
};

/* item: of spec.triggers, at `index`. gateway_url: where inferd's own series are asked; a
 * serverAddress that is this one, or none, means them. ERR_INVALID: names type, field and value;
 * nothing is to be deinitialised then. */
MUST_CHECK enum errc trigger_parse(const json_t *item, uint32_t index, const char *gateway_url,
                                   struct trigger *ret_t, struct error *err);
void trigger_deinit(struct trigger *t);

const char *trigger_type_name(const struct trigger *t); /* "metrics-api" */
static inline bool trigger_is_resource(const struct trigger *t) {
    return t->type == TRIGGER_CPU || t->type == TRIGGER_MEMORY;
}
/* Somebody else is asked: trigger_ask(), then trigger_answer(). */
static inline bool trigger_is_remote(const struct trigger *t) {
    return t->type == TRIGGER_METRICS_API || (t->type == TRIGGER_PROMETHEUS && !t->query);
}

/* What is known here and now. ERR_UNAVAILABLE, ERR_INVALID: no number comes of it. Pure but for the
 * series. */
MUST_CHECK enum errc trigger_read(const struct trigger *t, struct series *series, const char *ns,
                                  int64_t wall_ms, double *ret_value, struct error *err);

/* Sends the question; fn is called as http_getter_ask() says. auth: {parameter: value} of the
 * authenticationRef, may be NULL. */
MUST_CHECK enum errc trigger_ask(const struct trigger *t, const json_t *auth, int64_t wall_ms,
                                 struct http_getter *getter, http_got_fn *fn, void *user,
                                 struct error *err);
/* The number in an answer. Pure. */
MUST_CHECK enum errc trigger_answer(const struct trigger *t, const struct http_got *got,
                                    double *ret_value, struct error *err);

#endif
