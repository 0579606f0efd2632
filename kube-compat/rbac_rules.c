/* A rule is a set of products: every verb on every resource of every group, of every name when
 * names are given; or every verb on every path. "*" stands for all. Two questions are asked of
 * rules: does one allow this request, and do these rules, together, allow whatever those allow?
 *
 * The second is asked when somebody grants rights: he must hold them. It is answered as the
 * reference server does: the wanted rules are broken down into single products, and each must be
 * covered by one held rule. So two rules that cover a third only together do not count when that
 * one says "*"; nobody can enumerate what a star stands for. */
#include "kube-compat/rbac_rules.h"

#include <stdio.h>

/* Filters. */

/* The bit of a word up to its slash; a star, alone or before a slash, may be any. */
static uint64_t bit_of(const char *word) {
    uint32_t h = 0x811c9dc5; /* FNV-1a */
    if (*word == '*')
        return UINT64_MAX;
    for (; *word && *word != '/'; word++)
        h = (h ^ (unsigned char)*word) * 0x01000193;
    return UINT64_C(1) << ((h ^ h >> 16) % 64);
}

static uint64_t bits_of(const struct rbac_words *words) {
    uint64_t bits = 0;
    for (size_t i = 0; i < words->num; i++)
        bits |= bit_of(words->items[i]);
    return bits;
}

static void settle_filter(struct rbac_rule *rule) {
    rule->filter = (struct rbac_filter){.verbs = bits_of(&rule->verbs),
                                        .groups = bits_of(&rule->groups),
                                        .resources = bits_of(&rule->resources)};
}

/* Access reviews may ask with a star, too: then only a rule with a star will do, which has all
 * bits. */
struct rbac_filter rbac_filter_of(const struct authz_attributes *a) {
    if (!a->resource)
        return (struct rbac_filter){.verbs = bit_of(a->verb)};
    return (struct rbac_filter){
        .verbs = bit_of(a->verb), .groups = bit_of(a->group), .resources = bit_of(a->resource)};
}

/* Reading and writing. */

static void read_words(struct arena *arena, const json_t *list, struct rbac_words *ret) {
    ret->items = arena_alloc(arena, (json_array_size(list) + 1) * sizeof(ret->items[0]));
    ret->num = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        if (word)
            ret->items[ret->num++] = arena_strdup(arena, word);
    }
}

void rbac_rules_read(struct arena *arena, const json_t *rules, struct rbac_rules *ret_rules) {
    size_t num = json_array_size(rules);
    ret_rules->items = arena_alloc(arena, (num + 1) * sizeof(ret_rules->items[0]));
    ret_rules->num = num;
    for (size_t i = 0; i < num; i++) {
        const json_t *from = json_array_get(rules, i);
        struct rbac_rule *to = &ret_rules->items[i];
        read_words(arena, json_object_get(from, "verbs"), &to->verbs);
        read_words(arena, json_object_get(from, "apiGroups"), &to->groups);
        read_words(arena, json_object_get(from, "resources"), &to->resources);
        read_words(arena, json_object_get(from, "resourceNames"), &to->names);
        read_words(arena, json_object_get(from, "nonResourceURLs"), &to->paths);
        settle_filter(to);
    }
}

void rbac_rules_everything(struct arena *arena, struct rbac_rules *ret_rules) {
    json_t *rules = json_pack("[{s:[s], s:[s], s:[s]}, {s:[s], s:[s]}]", "verbs", "*", "apiGroups",
                              "*", "resources", "*", "verbs", "*", "nonResourceURLs", "*");
    rbac_rules_read(arena, rules, ret_rules);
    json_decref(rules);
}

/* The members of a rule in the order in which they are shown. */
struct member {
    const char *json, *shown;
    size_t offset;
};
static const struct member members[] = {
    {"apiGroups", "APIGroups", offsetof(struct rbac_rule, groups)},
    {"resources", "Resources", offsetof(struct rbac_rule, resources)},
    {"nonResourceURLs", "NonResourceURLs", offsetof(struct rbac_rule, paths)},
    {"resourceNames", "ResourceNames", offsetof(struct rbac_rule, names)},
    {"verbs", "Verbs", offsetof(struct rbac_rule, verbs)},
};

static const struct rbac_words *member_of(const struct rbac_rule *rule, const struct member *m) {
    return (const struct rbac_words *)((const char *)rule + m->offset);
}

json_t *rbac_rule_json(const struct rbac_rule *rule) {
    json_t *o = json_object();
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const struct rbac_words *words = member_of(rule, &members[i]);
        if (!words->num)
            continue;
        json_t *list = json_array();
        for (size_t j = 0; j < words->num; j++)
            json_array_append_new(list, json_string(words->items[j]));
        json_object_set_new(o, members[i].json, list);
    }
    return o;
}

void rbac_rule_describe(const struct rbac_rule *rule, struct buf *out) {
    size_t shown = 0;
    buf_putc(out, '{');
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const struct rbac_words *words = member_of(rule, &members[i]);
        if (!words->num)
            continue;
        buf_printf(out, "%s%s:[", shown++ ? ", " : "", members[i].shown);
        for (size_t j = 0; j < words->num; j++)
            buf_printf(out, "%s\"%s\"", j ? " " : "", words->items[j]);
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

/* Allowing. */

static bool has(const struct rbac_words *words, const char *word) {
    for (size_t i = 0; i < words->num; i++) {
        if (!strcmp(words->items[i], word))
            return true;
    }
    return false;
}

static bool has_or_all(const struct rbac_words *words, const char *word) {
    for (size_t i = 0; i < words->num; i++) {
        if (!strcmp(words->items[i], word) || !strcmp(words->items[i], "*"))
            return true;
    }
    return false;
}

/* "pods" allows pods, "pods/log" that subresource, "STAR/scale" it of every resource, "*" all. */
static bool allows_resource(const struct rbac_words *words, const char *resource,
                            const char *subresource) {
    size_t len = strlen(resource);
    for (size_t i = 0; i < words->num; i++) {
        const char *w = words->items[i];
        if (!strcmp(w, "*"))
            return true;
        if (!subresource) {
            if (!strcmp(w, resource))
                return true;
            continue;
        }
        bool all = !strncmp(w, "*/", 2), this = !strncmp(w, resource, len) && w[len] == '/';
        if ((all && !strcmp(w + 2, subresource)) || (this && !strcmp(w + len + 1, subresource)))
            return true;
    }
    return false;
}

/* A path, or with a star at its end all that begin like it. */
static bool path_allows(const char *pattern, const char *path) {
    size_t len = strlen(pattern);
    if (len && pattern[len - 1] == '*') {
        while (len && pattern[len - 1] == '*')
            len--;
        return !strncmp(pattern, path, len);
    }
    return !strcmp(pattern, path);
}

bool rbac_rule_allows(const struct rbac_rule *rule, const struct rbac_filter *asked,
                      const struct authz_attributes *a) {
    if ((asked->verbs & ~rule->filter.verbs) || (asked->groups & ~rule->filter.groups) ||
        (asked->resources & ~rule->filter.resources) || !has_or_all(&rule->verbs, a->verb))
        return false;
    if (a->resource)
        return has_or_all(&rule->groups, a->group) &&
               allows_resource(&rule->resources, a->resource, a->subresource) &&
               (!rule->names.num || (a->name && has(&rule->names, a->name)));
    for (size_t i = 0; i < rule->paths.num; i++) {
        if (path_allows(rule->paths.items[i], a->path))
            return true;
    }
    return false;
}

/* Covering. */

/* A product of a rule: one verb, and one resource or one path. */
struct single {
    const char *verb, *group, *resource, *name, *path; /* name NULL: all names */
};

static bool covers_resource(const struct rbac_words *words, const char *resource) {
    if (has_or_all(words, resource))
        return true;
    const char *slash = strchr(resource, '/');
    for (size_t i = 0; slash && i < words->num; i++) {
        if (words->items[i][0] == '*' && !strcmp(words->items[i] + 1, slash))
            return true;
    }
    return false;
}

static bool covers_path(const struct rbac_words *words, const char *path) {
    for (size_t i = 0; i < words->num; i++) {
        if (path_allows(words->items[i], path))
            return true;
    }
    return false;
}

static bool covered(const struct rbac_rules *held, const struct single *s) {
    for (size_t i = 0; i < held->num; i++) {
        const struct rbac_rule *r = &held->items[i];
        if (!has_or_all(&r->verbs, s->verb))
            continue;
        if (s->path
                ? covers_path(&r->paths, s->path)
                : has_or_all(&r->groups, s->group) && covers_resource(&r->resources, s->resource) &&
                      (!r->names.num || (s->name && has(&r->names, s->name))))
            return true;
    }
    return false;
}

struct collector {
    struct arena *arena;
    const struct rbac_rules *held;
    struct rbac_rules *missing;
    size_t cap;
    size_t num_products;
};

/* Doubles its room whenever it is full. */
static void add_word(struct arena *arena, struct rbac_words *words, const char *word) {
    if (!(words->num & (words->num - 1))) {
        const char **grown = arena_alloc(arena, (2 * words->num + 1) * sizeof(grown[0]));
        if (words->num)
            memcpy((void *)grown, (const void *)words->items, words->num * sizeof(grown[0]));
        words->items = grown;
    }
    words->items[words->num++] = word;
}

/* Gives the place of a new missing rule, or NULL: there are enough. */
static struct rbac_rule *add_rule(struct collector *c, const struct rbac_rule *rule) {
    struct rbac_rules *m = c->missing;
    if (m->num == RBAC_MISSING_MAX)
        return NULL;
    if (m->num == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 8;
        struct rbac_rule *grown = arena_alloc(c->arena, c->cap * sizeof(*grown));
        if (m->num)
            memcpy(grown, m->items, m->num * sizeof(*grown));
        m->items = grown;
    }
    m->items[m->num] = *rule;
    return &m->items[m->num++];
}

static bool only(const struct rbac_words *words, const char *word) {
    return word ? words->num == 1 && !strcmp(words->items[0], word) : !words->num;
}

/* Adds what is not covered; verbs on one resource are kept together. */
static void consider(struct collector *c, const struct single *s) {
    struct rbac_rules *m = c->missing;
    c->num_products++;
    if (covered(c->held, s))
        return;
    for (size_t i = 0; !s->path && i < m->num; i++) {
        struct rbac_rule *r = &m->items[i];
        if (only(&r->groups, s->group) && only(&r->resources, s->resource) &&
            only(&r->names, s->name)) {
            add_word(c->arena, &r->verbs, s->verb);
            return;
        }
    }
    struct rbac_rule *r = add_rule(c, &(struct rbac_rule){0});
    if (!r)
        return;
    add_word(c->arena, &r->verbs, s->verb);
    if (s->path) {
        add_word(c->arena, &r->paths, s->path);
        return;
    }
    add_word(c->arena, &r->groups, s->group);
    add_word(c->arena, &r->resources, s->resource);
    if (s->name)
        add_word(c->arena, &r->names, s->name);
}

/* Every product of a rule about resources. */
static void break_down(struct collector *c, const struct rbac_rule *rule) {
    size_t num_names = rule->names.num ? rule->names.num : 1;
    for (size_t g = 0; g < rule->groups.num; g++) {
        for (size_t r = 0; r < rule->resources.num; r++) {
            for (size_t v = 0; v < rule->verbs.num; v++) {
                for (size_t n = 0; n < num_names; n++) {
                    struct single s = {.verb = rule->verbs.items[v],
                                       .group = rule->groups.items[g],
                                       .resource = rule->resources.items[r],
                                       .name = rule->names.num ? rule->names.items[n] : NULL};
                    consider(c, &s);
                }
            }
        }
    }
    for (size_t p = 0; p < rule->paths.num; p++) {
        for (size_t v = 0; v < rule->verbs.num; v++) {
            struct single s = {.verb = rule->verbs.items[v], .path = rule->paths.items[p]};
            consider(c, &s);
        }
    }
}

static bool all_of(const struct rbac_words *held, const struct rbac_words *wanted,
                   bool (*covers)(const struct rbac_words *held, const char *word)) {
    for (size_t i = 0; i < wanted->num; i++) {
        if (!covers(held, wanted->items[i]))
            return false;
    }
    return true;
}

/* Does one held rule cover a wanted one with all its products? The usual case, without making
 * them. */
static bool covered_whole(const struct rbac_rules *held, const struct rbac_rule *rule) {
    for (size_t i = 0; i < held->num; i++) {
        const struct rbac_rule *r = &held->items[i];
        if (all_of(&r->verbs, &rule->verbs, has_or_all) &&
            all_of(&r->groups, &rule->groups, has_or_all) &&
            all_of(&r->resources, &rule->resources, covers_resource) &&
            all_of(&r->paths, &rule->paths, covers_path) &&
            (!r->names.num || (rule->names.num && all_of(&r->names, &rule->names, has))))
            return true;
    }
    return false;
}

/* Saturates far above the bound. */
static size_t num_products(const struct rbac_rule *rule) {
    size_t factors[] = {rule->groups.num, rule->resources.num,
                        rule->names.num ? rule->names.num : 1};
    size_t num = rule->verbs.num;
    for (size_t i = 0; i < ARRAY_LEN(factors) && num <= RBAC_PRODUCTS_MAX; i++)
        num *= factors[i];
    return num + rule->verbs.num * rule->paths.num;
}

void rbac_rules_missing(struct arena *arena, const struct rbac_rules *held,
                        const struct rbac_rules *wanted, struct rbac_rules *ret_missing) {
    *ret_missing = (struct rbac_rules){0};
    struct collector c = {.arena = arena, .held = held, .missing = ret_missing};
    for (size_t i = 0; i < wanted->num; i++) {
        const struct rbac_rule *rule = &wanted->items[i];
        if (covered_whole(held, rule))
            continue;
        if (c.num_products + num_products(rule) <= RBAC_PRODUCTS_MAX)
            break_down(&c, rule);
        else
            add_rule(&c, rule);
    }
    for (size_t i = 0; i < ret_missing->num; i++)
        settle_filter(&ret_missing->items[i]);
}
