/* Shares by credit. Every request is worth one; each candidate earns its share of it, whoever is
 * owed most gets it and pays one. So nobody is ever more than a few requests behind or ahead of
 * what its weights added up to, however often they change: any row of requests holds the shares.
 * One who cannot take a request (no replica with room) earns nothing meanwhile, or it would be
 * flooded with what it has missed.
 *
 * With constant weights this is smooth weighted round robin: exact over any hundred, and a canary
 * of 10 % gets every tenth and not ten in a row. Credits count in 1/CREDIT of a request; what
 * rounding leaves over stays with the one who pays, so that they always sum up to zero.
 *
 * Sticky clients draw lots instead (weighted rendezvous): each candidate's lot is a number from
 * client and id, stretched by its weight, and the shortest wins. A candidate's lot depends on
 * nobody else's weight. */
#include "core/control/traffic_credit.h"

#include <math.h>

#include "core/base/mem.h"

enum { CREDIT = 100 << 16, STALE_MAX = 8 };

void traffic_credits_deinit(struct traffic_credits *c) {
    free(c->items);
    *c = (struct traffic_credits){0};
}

static struct traffic_credit *find(const struct traffic_credits *c, uint64_t id) {
    for (uint32_t i = 0; i < c->num; i++) {
        if (c->items[i].id == id)
            return &c->items[i];
    }
    return NULL;
}

static uint64_t sum(const struct traffic_candidate *of, uint32_t num) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < num; i++)
        total += of[i].weight;
    return total;
}

static int64_t earned(const struct traffic_candidate *one, uint64_t total) {
    return (int64_t)((uint64_t)CREDIT * one->weight / total);
}

int traffic_credits_next(const struct traffic_credits *c, const struct traffic_candidate *of,
                         uint32_t num) {
    uint64_t total = sum(of, num);
    int64_t most = INT64_MIN;
    int next = -1;
    for (uint32_t i = 0; i < num; i++) {
        const struct traffic_credit *has = find(c, of[i].id);
        int64_t owed = of[i].weight ? (has ? has->owed : 0) + earned(&of[i], total) : INT64_MIN;
        if (owed > most) {
            most = owed;
            next = (int)i;
        }
    }
    return next;
}

/* Those that are no candidates any more go, when there are many. */
static void forget(struct traffic_credits *c, const struct traffic_candidate *of, uint32_t num) {
    uint32_t kept = 0;
    if (c->num <= num + STALE_MAX)
        return;
    for (uint32_t i = 0; i < c->num; i++) {
        uint32_t k = 0;
        while (k < num && of[k].id != c->items[i].id)
            k++;
        if (k < num)
            c->items[kept++] = c->items[i];
    }
    c->num = kept;
}

static struct traffic_credit *get(struct traffic_credits *c, uint64_t id) {
    struct traffic_credit *has = find(c, id);
    if (has)
        return has;
    if (c->num == c->capacity) {
        c->capacity = c->capacity ? 2 * c->capacity : 4;
        c->items = mem_realloc(c->items, c->capacity * sizeof(*c->items));
    }
    c->items[c->num] = (struct traffic_credit){.id = id};
    return &c->items[c->num++];
}

void traffic_credits_pay(struct traffic_credits *c, const struct traffic_candidate *of,
                         uint32_t num, uint32_t got) {
    uint64_t total = sum(of, num);
    int64_t given = 0;
    ASSERT(got < num && of[got].weight);
    forget(c, of, num);
    for (uint32_t i = 0; i < num; i++) {
        int64_t share = of[i].weight ? earned(&of[i], total) : 0;
        if (share)
            get(c, of[i].id)->owed += share;
        given += share;
    }
    get(c, of[got].id)->owed -= given;
}

/* Sebastiano Vigna's finalizer (splitmix64): every bit depends on every bit. */
static uint64_t mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int traffic_credits_sticky(uint64_t client, const struct traffic_candidate *of, uint32_t num) {
    double shortest = INFINITY;
    int chosen = -1;
    for (uint32_t i = 0; i < num; i++) {
        double draw = ((double)(mix(client ^ mix(of[i].id)) >> 11) + 0.5) / 9007199254740992.0;
        double lot = of[i].weight ? -log(draw) / of[i].weight : INFINITY;
        if (lot < shortest) {
            shortest = lot;
            chosen = (int)i;
        }
    }
    return chosen;
}

uint64_t traffic_credit_id(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}
