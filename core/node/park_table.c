/* Two short lists: models, and the replicas that use them. A model without a descriptor is being
 * made, by `maker`; one without users is parked. */
#include "core/node/park_table.h"

#include <unistd.h>

struct model {
    struct model *next;
    struct park_key key;
    char *name;
    int fd; /* -1: being made */
    uint64_t bytes, maker, made;
    uint32_t num_users; /* replicas that have it, or make it */
    int64_t used_ms;    /* when the last one left */
};

struct user {
    struct user *next;
    uint64_t id;
    struct model *model; /* NULL: makes what is not shared */
    bool waits;
};

struct park_table {
    uint64_t budget_bytes;
    struct model *models;
    struct user *users; /* in the order in which they asked */
    uint32_t num_models;
    uint64_t shared_total, made_total, dropped_total;
};

struct park_table *park_table_create(uint64_t budget_bytes) {
    struct park_table *t = mem_alloc(sizeof(*t));
    t->budget_bytes = budget_bytes;
    return t;
}

static void remove_model(struct park_table *t, struct model *m) {
    struct model **at = &t->models;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    t->num_models--;
    if (m->fd >= 0)
        close(m->fd);
    free(m->name);
    free(m);
}

void park_table_destroy(struct park_table *t) {
    if (!t)
        return;
    while (t->models)
        remove_model(t, t->models);
    for (struct user *u; (u = t->users);) {
        t->users = u->next;
        free(u);
    }
    free(t);
}

static bool is_parked(const struct model *m) {
    return m->fd >= 0 && !m->num_users;
}

/* NULL: nothing is parked. */
static struct model *least_recently_used(const struct park_table *t) {
    struct model *least = NULL;
    for (struct model *m = t->models; m; m = m->next) {
        if (is_parked(m) && (!least || m->used_ms < least->used_ms))
            least = m;
    }
    return least;
}

static uint64_t drop_one(struct park_table *t) {
    struct model *m = least_recently_used(t);
    if (!m)
        return 0;
    uint64_t bytes = m->bytes;
    t->dropped_total++;
    remove_model(t, m);
    return bytes;
}

static uint64_t parked_bytes(const struct park_table *t) {
    uint64_t sum = 0;
    for (const struct model *m = t->models; m; m = m->next)
        sum += is_parked(m) ? m->bytes : 0;
    return sum;
}

uint64_t park_table_make_room(struct park_table *t, uint64_t bytes) {
    uint64_t sum = 0, dropped;
    while (sum < bytes && (dropped = drop_one(t)))
        sum += dropped;
    return sum;
}

static struct model *find_model(const struct park_table *t, const struct park_key *key) {
    struct model *m = t->models;
    while (m && memcmp(&m->key, key, sizeof(*key)) != 0)
        m = m->next;
    return m;
}

/* NULL: there are too many, and all in use. */
static struct model *add_model(struct park_table *t, const struct park_key *key, const char *name,
                               uint64_t maker) {
    if (t->num_models == PARK_MODELS_MAX && !drop_one(t))
        return NULL;
    struct model *m = mem_alloc(sizeof(*m));
    m->key = *key;
    m->name = mem_strdup(name);
    m->fd = -1;
    m->maker = maker;
    m->next = t->models;
    t->models = m;
    t->num_models++;
    return m;
}

static struct user *find_user(const struct park_table *t, uint64_t id) {
    struct user *u = t->users;
    while (u && u->id != id)
        u = u->next;
    return u;
}

static struct user *add_user(struct park_table *t, uint64_t id, struct model *m) {
    struct user **at = &t->users;
    while (*at)
        at = &(*at)->next;
    *at = mem_alloc(sizeof(**at));
    (*at)->id = id;
    (*at)->model = m;
    if (m)
        m->num_users++;
    return *at;
}

enum park_answer park_table_ask(struct park_table *t, uint64_t user, const struct park_key *key,
                                const char *name, int *ret_fd) {
    park_table_leave(t, user, 0); /* who asks again has nothing any more */
    struct model *m = find_model(t, key);
    if (!m) {
        add_user(t, user, add_model(t, key, name, user));
        return PARK_ANSWER_MAKE;
    }
    struct user *u = add_user(t, user, m);
    if (m->fd < 0) {
        u->waits = true;
        return PARK_ANSWER_WAIT;
    }
    t->shared_total++;
    *ret_fd = m->fd;
    return PARK_ANSWER_HAVE;
}

bool park_table_put(struct park_table *t, uint64_t user, int fd, uint64_t bytes, int64_t now_ms) {
    struct user *u = find_user(t, user);
    struct model *m = u ? u->model : NULL;
    if (!m || m->fd >= 0 || m->maker != user) {
        close(fd);
        return false;
    }
    m->fd = fd;
    m->bytes = bytes;
    m->made = ++t->made_total;
    m->used_ms = now_ms;
    return true;
}

/* Its maker is gone without them: the first who waits makes them. */
static void pass_on(struct park_table *t, struct model *m) {
    for (struct user *u = t->users; u; u = u->next) {
        if (u->model == m) {
            m->maker = u->id;
            return;
        }
    }
    remove_model(t, m);
}

void park_table_leave(struct park_table *t, uint64_t user, int64_t now_ms) {
    struct user **at = &t->users;
    while (*at && (*at)->id != user)
        at = &(*at)->next;
    if (!*at)
        return;
    struct user *u = *at;
    struct model *m = u->model;
    *at = u->next;
    free(u);
    if (!m)
        return;
    m->num_users--;
    if (m->fd < 0) {
        if (m->maker == user)
            pass_on(t, m);
        return;
    }
    m->used_ms = now_ms;
    if (is_parked(m) && m->bytes > t->budget_bytes) { /* it would only push out all others */
        t->dropped_total++;
        remove_model(t, m);
    }
    while (parked_bytes(t) > t->budget_bytes)
        drop_one(t);
}

bool park_table_next_answer(struct park_table *t, uint64_t *ret_user, enum park_answer *ret_answer,
                            int *ret_fd) {
    for (struct user *u = t->users; u; u = u->next) {
        if (!u->waits || !u->model)
            continue;
        bool makes = u->model->fd < 0;
        if (makes && u->model->maker != u->id)
            continue;
        u->waits = false;
        *ret_user = u->id;
        *ret_answer = makes ? PARK_ANSWER_MAKE : PARK_ANSWER_HAVE;
        *ret_fd = u->model->fd;
        t->shared_total += !makes;
        return true;
    }
    return false;
}

void park_table_figures(const struct park_table *t, struct park_figures *ret) {
    struct park_figures f = {.shared_total = t->shared_total,
                             .made_total = t->made_total,
                             .dropped_total = t->dropped_total};
    for (const struct model *m = t->models; m; m = m->next) {
        if (is_parked(m)) {
            f.num_parked++;
            f.parked_bytes += m->bytes;
        } else if (m->fd >= 0) {
            f.num_in_use++;
            f.in_use_bytes += m->bytes;
        }
    }
    *ret = f;
}

bool park_table_at(const struct park_table *t, uint32_t index, int *ret_fd, uint64_t *ret_bytes,
                   uint64_t *ret_made) {
    for (const struct model *m = t->models; m; m = m->next) {
        if (m->fd < 0 || index--)
            continue;
        *ret_fd = m->fd;
        *ret_bytes = m->bytes;
        *ret_made = m->made;
        return true;
    }
    return false;
}
