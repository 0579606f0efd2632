/* Label sets: one block of memory each, pairs first, text behind them. */
#include "core/series/labels.h"

#include <stdatomic.h>

/* Sorted, without empty values, of two with one name the later; gives how many. */
static uint32_t normalize(struct label *items, uint32_t num) {
    uint32_t kept = 0;
    /* Few and mostly sorted: insertion keeps the order of equals. */
    for (uint32_t i = 1; i < num; i++) {
        struct label moving = items[i];
        uint32_t at = i;
        for (; at > 0 && strcmp(items[at - 1].name, moving.name) > 0; at--)
            items[at] = items[at - 1];
        items[at] = moving;
    }
    for (uint32_t i = 0; i < num; i++) {
        if (i + 1 < num && !strcmp(items[i].name, items[i + 1].name))
            continue;
        if (*items[i].value)
            items[kept++] = items[i];
    }
    return kept;
}

static uint64_t hash_text(uint64_t hash, const char *text) {
    for (; *text; text++) /* FNV-1a */
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3;
    return (hash ^ 0xff) * 0x100000001b3;
}

struct labels *labels_create(const struct label *items, uint32_t num) {
    struct label sorted[LABELS_MAX];
    size_t bytes = 0;
    ASSERT(num <= LABELS_MAX);
    if (num)
        memcpy(sorted, items, num * sizeof(*items));
    num = normalize(sorted, num);
    for (uint32_t i = 0; i < num; i++)
        bytes += strlen(sorted[i].name) + strlen(sorted[i].value) + 2;
    struct labels *l = mem_alloc(sizeof(*l) + num * sizeof(*l->items) + bytes);
    l->refs = 1;
    l->num = num;
    l->hash = 0xcbf29ce484222325;
    char *text = (char *)&l->items[num];
    for (uint32_t i = 0; i < num; i++) {
        l->items[i].name = text;
        text = stpcpy(text, sorted[i].name) + 1;
        l->items[i].value = text;
        text = stpcpy(text, sorted[i].value) + 1;
        l->hash = hash_text(hash_text(l->hash, l->items[i].name), l->items[i].value);
    }
    return l;
}

struct labels *labels_ref(struct labels *l) {
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}

void labels_unref(struct labels *l) {
    if (l && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1)
        free(l);
}

const char *labels_get(const struct labels *l, const char *name) {
    for (uint32_t i = 0; i < l->num; i++) {
        if (!strcmp(l->items[i].name, name))
            return l->items[i].value;
    }
    return "";
}

int labels_compare(const struct labels *a, const struct labels *b) {
    for (uint32_t i = 0; i < a->num && i < b->num; i++) {
        int order = strcmp(a->items[i].name, b->items[i].name);
        if (!order)
            order = strcmp(a->items[i].value, b->items[i].value);
        if (order)
            return order;
    }
    return a->num < b->num ? -1 : a->num > b->num;
}

bool labels_equal(const struct labels *a, const struct labels *b) {
    return a == b || (a->hash == b->hash && a->num == b->num && !labels_compare(a, b));
}

size_t labels_bytes(const struct labels *l) {
    size_t bytes = sizeof(*l) + l->num * sizeof(*l->items);
    for (uint32_t i = 0; i < l->num; i++)
        bytes += strlen(l->items[i].name) + strlen(l->items[i].value) + 2;
    return bytes;
}
