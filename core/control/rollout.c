/* Kubernetes' rolling update as arithmetic.
 *
 * Two bounds hold at every step: never more than desired + max_surge replicas are asked for, and
 * scaling old sets down never takes the available ones below desired - max_unavailable. A step
 * first grows the new set into the room that the first bound leaves; when there is none, it shrinks
 * old sets as far as the second allows, broken replicas before working ones.
 *
 * Source: kubernetes/pkg/controller/deployment, rolling.go and sync.go (behaviour, not text). */
#include "core/control/rollout.h"

enum { PERCENT_MAX = 1000000 };

static int64_t min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

bool rollout_resolve(const json_t *value, int64_t total, bool round_up, int64_t *ret_number) {
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret_number = json_integer_value(value);
        return true;
    }
    const char *text = json_string_value(value);
    char *end;
    long percent = text ? strtol(text, &end, 10) : -1;
    if (percent < 0 || percent > PERCENT_MAX || end == text || strcmp(end, "%") != 0)
        return false;
    *ret_number = (total * percent + (round_up ? 99 : 0)) / 100;
    return true;
}

static int64_t sum_old(const struct rollout *r) {
    int64_t sum = 0;
    for (size_t i = 0; i < r->num_old_sets; i++)
        sum += r->old_sets[i].replicas;
    return sum;
}

static bool set_replicas(struct rollout_set *s, int64_t replicas) {
    bool changed = s->replicas != replicas;
    s->replicas = replicas;
    return changed;
}

/* Recreate: nothing new while an old pod exists. */
static bool step_recreate(struct rollout *r) {
    bool changed = false, any_pod = false;
    for (size_t i = 0; i < r->num_old_sets; i++) {
        changed |= set_replicas(&r->old_sets[i], 0);
        any_pod = any_pod || r->old_sets[i].num_pods > 0;
    }
    if (!changed && !any_pod && r->new_set)
        changed = set_replicas(r->new_set, r->desired);
    return changed;
}

static bool grow_new(struct rollout *r) {
    struct rollout_set *s = r->new_set;
    if (s->replicas >= r->desired)
        return set_replicas(s, r->desired);
    int64_t room = r->desired + r->max_surge - sum_old(r) - s->replicas;
    int64_t more = min(room, r->desired - s->replicas);
    return more > 0 && set_replicas(s, s->replicas + more);
}

static bool shrink_old(struct rollout *r) {
    int64_t new_replicas = r->new_set->replicas, available = r->new_set->available;
    int64_t total = new_replicas + sum_old(r);
    int64_t floor = r->desired - r->max_unavailable;
    /* Replicas of the new set that are not available yet cannot stand in for old ones. */
    int64_t may_go = total - floor - (new_replicas - min(r->new_set->available, new_replicas));
    bool changed = false;
    if (may_go <= 0)
        return false;
    for (size_t i = 0; i < r->num_old_sets; i++) { /* broken ones first: they serve nobody */
        struct rollout_set *s = &r->old_sets[i];
        int64_t broken = max(s->replicas - s->available, 0);
        int64_t less = min(broken, may_go);
        changed |= less && set_replicas(s, s->replicas - less);
        may_go -= less;
        available += min(s->available, s->replicas);
    }
    int64_t spare = available - floor;
    for (size_t i = 0; i < r->num_old_sets && spare > 0; i++) {
        struct rollout_set *s = &r->old_sets[i];
        int64_t less = min(s->replicas, spare);
        changed |= less && set_replicas(s, s->replicas - less);
        spare -= less;
    }
    return changed;
}

bool rollout_step(struct rollout *r) {
    if (r->recreate)
        return step_recreate(r);
    if (!r->new_set)
        return false;
    return grow_new(r) || shrink_old(r);
}

bool rollout_split(struct rollout *r, struct rollout_set *stable) {
    bool whole = stable->available >= r->desired;
    bool changed = set_replicas(stable, r->desired);
    if (r->new_set)
        changed |= set_replicas(r->new_set, r->desired);
    for (size_t i = 0; whole && i < r->num_old_sets; i++) {
        if (&r->old_sets[i] != stable)
            changed |= set_replicas(&r->old_sets[i], 0);
    }
    return changed;
}

/* Largest first; of equals the newest when the Deployment grows, else the oldest. */
static bool goes_before(const struct rollout_set *a, const struct rollout_set *b, bool grows) {
    if (a->replicas != b->replicas)
        return a->replicas > b->replicas;
    return grows ? a->created > b->created : a->created < b->created;
}

static void sort_sets(struct rollout_set **sets, size_t len, bool grows) {
    for (size_t i = 1; i < len; i++) { /* a handful: insertion sort */
        for (size_t k = i; k > 0 && goes_before(sets[k], sets[k - 1], grows); k--) {
            struct rollout_set *t = sets[k];
            sets[k] = sets[k - 1];
            sets[k - 1] = t;
        }
    }
}

/* The sets with replicas; an array of pointers, to be freed. */
static struct rollout_set **active_sets(struct rollout *r, size_t *ret_len) {
    struct rollout_set **sets = mem_array(r->num_old_sets + 1, sizeof(*sets));
    size_t len = 0;
    for (size_t i = 0; i < r->num_old_sets; i++) {
        if (r->old_sets[i].replicas > 0)
            sets[len++] = &r->old_sets[i];
    }
    if (r->new_set && r->new_set->replicas > 0)
        sets[len++] = r->new_set;
    *ret_len = len;
    return sets;
}

/* How much a set is to change so that it keeps its share of `allowed`. */
static int64_t share_of(const struct rollout *r, const struct rollout_set *s, int64_t allowed) {
    int64_t before = s->max_replicas ? s->max_replicas : r->status_replicas;
    if (!r->desired)
        return -s->replicas;
    if (!before)
        return 0;
    return (2 * s->replicas * allowed + before) / (2 * before) - s->replicas; /* rounded */
}

static bool spread(struct rollout *r, struct rollout_set **sets, size_t len) {
    int64_t total = 0, added = 0;
    int64_t allowed = r->desired ? r->desired + (r->recreate ? 0 : r->max_surge) : 0;
    bool changed = false;
    for (size_t i = 0; i < len; i++)
        total += sets[i]->replicas;
    int64_t to_add = allowed - total;
    if (!to_add)
        return false;
    sort_sets(sets, len, to_add > 0);
    for (size_t i = 0; i < len; i++) {
        int64_t share = share_of(r, sets[i], allowed), left = to_add - added;
        share = to_add > 0 ? min(max(share, 0), left) : max(min(share, 0), left);
        changed |= share && set_replicas(sets[i], sets[i]->replicas + share);
        added += share;
    }
    changed |= set_replicas(sets[0], max(sets[0]->replicas + to_add - added, 0));
    return changed;
}

bool rollout_scale(struct rollout *r) {
    size_t len;
    struct rollout_set **sets = active_sets(r, &len);
    bool changed = false;
    if (len <= 1) {
        struct rollout_set *only = len               ? sets[0]
                                   : r->new_set      ? r->new_set
                                   : r->num_old_sets ? &r->old_sets[r->num_old_sets - 1]
                                                     : NULL;
        changed = only && set_replicas(only, r->desired);
    } else if (r->new_set && r->new_set->replicas == r->desired &&
               r->new_set->available >= r->desired) {
        for (size_t i = 0; i < r->num_old_sets; i++)
            changed |= set_replicas(&r->old_sets[i], 0);
    } else {
        changed = spread(r, sets, len);
    }
    free(sets);
    return changed;
}
