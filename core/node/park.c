/* The thread that keeps parked models: one connection a replica, in one poll.
 *
 *   replica asks ─▶ park_table ─▶ HAVE, MAKE, or later
 *   replica ends ─▶ its weights are parked, or dropped
 *
 * A replica that is told to make its weights takes memory; when the machine has less than that
 * left, parked models go first, because they are only a convenience.
 *
 * Large pages. Memory files come in small pages unless the machine is told otherwise, and weights
 * are read from end to end for every token. So the thread asks the kernel to join the pages of what
 * it keeps (MADV_COLLAPSE), a little at a time and not before a replica has had the time to answer
 * what it was started for. Whoever maps them then or later has large pages.
 *
 * What a replica sends is only as good as the replica: a file that is not sealed is not kept, and a
 * packet that makes no sense ends the connection. */
#include "core/node/park.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/park_message.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum {
    COLLAPSE_BYTES = 2 << 20,
    COLLAPSE_AFTER_MS = 2000, /* since the weights were put */
    COLLAPSE_PAUSE_MS = 5,    /* between two pieces, which take a millisecond or two each */
    ROOM_TIMES = 2,           /* weights, and as much again for a replica's cache */
};

struct connection {
    struct connection *next;
    uint64_t id;
    int fd;
};

struct park {
    struct park_options opt;
    pthread_t thread;
    int wake_fd;
    _Atomic bool stopping;
    struct park_table *table;
    struct connection *connections; /* the thread's */
    uint64_t collapse_made;         /* weights that are being joined, by their number */
    uint64_t collapse_at;           /* bytes of them that are done */
    int64_t collapse_due_ms;        /* 0: there is nothing to join */

    pthread_mutex_t lock;
    struct connection *fresh; /* not seen by the thread yet */
    uint32_t num_connections;
    uint64_t last_id;
};

/* ---- metrics ---- */

static const struct metric_family families[] = {
    {.type = METRIC_GAUGE,
     .name = "inferd_parked_models",
     .help = "Models whose packed weights are in memory and that no replica uses."},
    {.type = METRIC_GAUGE,
     .name = "inferd_parked_models_bytes",
     .help = "Memory of parked models; the bound is parkedModelsBytesMax."},
    {.type = METRIC_GAUGE,
     .name = "inferd_shared_models_bytes",
     .help = "Memory of packed weights that replicas use, each model once."},
    {.type = METRIC_COUNTER,
     .name = "inferd_parked_model_wakes_total",
     .help = "Replicas that found their weights in memory."},
    {.type = METRIC_COUNTER,
     .name = "inferd_parked_model_loads_total",
     .help = "Replicas that packed their weights, and left them to others."},
    {.type = METRIC_COUNTER,
     .name = "inferd_parked_model_drops_total",
     .help = "Parked models that were dropped, for the budget or for memory that was wanted."},
};

static void publish(struct park *p) {
    struct park_figures f;
    if (!p->opt.metrics)
        return;
    park_table_figures(p->table, &f);
    const double values[] = {f.num_parked,           (double)f.parked_bytes,
                             (double)f.in_use_bytes, (double)f.shared_total,
                             (double)f.made_total,   (double)f.dropped_total};
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        metric_set(metrics_get(p->opt.metrics, &families[i], NULL), values[i]);
}

/* ---- memory ---- */

static uint64_t available_bytes(void) {
    char line[128];
    uint64_t kib = UINT64_MAX / 1024;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
            break;
    }
    if (f)
        fclose(f);
    return kib * 1024;
}

static void make_room(struct park *p, uint64_t bytes) {
    uint64_t wanted = bytes > UINT64_MAX / ROOM_TIMES ? UINT64_MAX : bytes * ROOM_TIMES;
    uint64_t left = p->opt.available_bytes ? p->opt.available_bytes() : available_bytes();
    if (left >= wanted)
        return;
    uint64_t given = park_table_make_room(p->table, wanted - left);
    if (given)
        log_info("parked models make room for a replica", "bytes=%" PRIu64 " wanted=%" PRIu64,
                 given, wanted - left);
}

/* The weights that were put after those that are done; false: there are none. */
static bool next_to_collapse(const struct park *p, int *ret_fd, uint64_t *ret_bytes,
                             uint64_t *ret_made) {
    uint64_t bytes, made;
    bool any = false;
    int fd;
    *ret_made = 0;
    for (uint32_t i = 0; park_table_at(p->table, i, &fd, &bytes, &made); i++) {
        if (made < p->collapse_made || (any && made >= *ret_made))
            continue;
        any = true;
        *ret_fd = fd;
        *ret_bytes = bytes;
        *ret_made = made;
    }
    return any;
}

/* Joins one piece. False: the kernel does not do that, or has no large page left now. */
static bool collapse_piece(int fd, uint64_t at) {
    void *room = mmap(NULL, 2 * COLLAPSE_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return false;
    uintptr_t mask = COLLAPSE_BYTES - 1;
    void *aligned = (void *)(((uintptr_t)room + mask) & ~mask);
    void *piece = mmap(aligned, COLLAPSE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)at);
    bool joined = piece != MAP_FAILED && !madvise(piece, COLLAPSE_BYTES, MADV_COLLAPSE);
    munmap(room, 2 * COLLAPSE_BYTES);
    return joined;
}

/* What is left in small pages stays in them: another try would cost as much and gain as little. */
static void collapse(struct park *p, int64_t now_ms) {
    int fd;
    uint64_t bytes, made;
    if (!p->collapse_due_ms || now_ms < p->collapse_due_ms)
        return;
    p->collapse_due_ms = 0;
    if (!next_to_collapse(p, &fd, &bytes, &made))
        return;
    if (made != p->collapse_made)
        p->collapse_at = 0;
    p->collapse_made = made;
    bool more = p->collapse_at + COLLAPSE_BYTES <= bytes && collapse_piece(fd, p->collapse_at);
    if (more)
        p->collapse_at += COLLAPSE_BYTES;
    else
        p->collapse_made = made + 1;
    p->collapse_due_ms = now_ms + COLLAPSE_PAUSE_MS;
}

/* ---- connections ---- */

static void close_connection(struct park *p, struct connection *c) {
    struct connection **at = &p->connections;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    park_table_leave(p->table, c->id, clock_mono_ms());
    close(c->fd);
    free(c);
    pthread_mutex_lock(&p->lock);
    p->num_connections--;
    pthread_mutex_unlock(&p->lock);
}

static struct connection *find_connection(const struct park *p, uint64_t id) {
    struct connection *c = p->connections;
    while (c && c->id != id)
        c = c->next;
    return c;
}

/* False: it does not listen. */
static bool answer(const struct connection *c, enum park_answer what, int fd) {
    struct error err = ERROR_INIT;
    struct park_message m = {.say = what == PARK_ANSWER_HAVE ? PARK_HAVE : PARK_MAKE};
    return what == PARK_ANSWER_WAIT ||
           !park_send(c->fd, &m, what == PARK_ANSWER_HAVE ? fd : -1, &err);
}

static bool on_ask(struct park *p, const struct connection *c, const struct park_message *m) {
    const struct park_key key = {{m->key[0], m->key[1]}};
    int fd = -1;
    enum park_answer what = park_table_ask(p->table, c->id, &key, m->name, &fd);
    if (what == PARK_ANSWER_MAKE)
        make_room(p, m->bytes);
    return answer(c, what, fd);
}

/* Takes the descriptor. */
static bool on_put(struct park *p, const struct connection *c, const struct park_message *m,
                   int fd) {
    int64_t now_ms = clock_mono_ms();
    if (!park_is_sealed(fd, m->bytes)) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (park_table_put(p->table, c->id, fd, m->bytes, now_ms) && !p->collapse_due_ms)
        p->collapse_due_ms = now_ms + COLLAPSE_AFTER_MS;
    return true;
}

/* False: the connection is over. */
static bool on_message(struct park *p, const struct connection *c) {
    struct park_message m;
    struct error err = ERROR_INIT;
    int fd = -1;
    if (park_receive(c->fd, &m, &fd, &err)) {
        if (err.code == ERR_MALFORMED)
            log_warn("a replica does not make sense about its weights", "error=\"%s\"", err.text);
        return false;
    }
    if (m.say == PARK_PUT)
        return on_put(p, c, &m, fd);
    if (fd >= 0)
        close(fd);
    if (m.say == PARK_ASK)
        return on_ask(p, c, &m);
    park_table_leave(p->table, c->id, clock_mono_ms());
    return m.say == PARK_KEEP;
}

static void answer_waiting(struct park *p) {
    uint64_t user;
    enum park_answer what;
    int fd;
    while (park_table_next_answer(p->table, &user, &what, &fd)) {
        struct connection *c = find_connection(p, user);
        if (c && !answer(c, what, fd))
            close_connection(p, c);
    }
}

/* ---- the thread ---- */

static void take_fresh(struct park *p) {
    uint64_t count;
    ssize_t n = read(p->wake_fd, &count, sizeof(count));
    (void)n; /* EAGAIN: taken before */
    pthread_mutex_lock(&p->lock);
    struct connection *fresh = steal(p->fresh);
    pthread_mutex_unlock(&p->lock);
    while (fresh) {
        struct connection *c = fresh;
        fresh = c->next;
        c->next = p->connections;
        p->connections = c;
    }
}

static int wait_ms(const struct park *p) {
    int64_t left = p->collapse_due_ms - clock_mono_ms();
    return !p->collapse_due_ms ? -1 : left < 0 ? 0 : (int)left;
}

/* One round of poll; gives whether a replica said something or left. */
static bool run_round(struct park *p, struct pollfd *polls) {
    nfds_t num = 1;
    polls[0] = (struct pollfd){.fd = p->wake_fd, .events = POLLIN};
    for (const struct connection *c = p->connections; c; c = c->next)
        polls[num++] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    if (poll(polls, num, wait_ms(p)) < 0)
        return false;
    bool any = false;
    nfds_t i = 1;
    for (struct connection *c = p->connections, *next; c; c = next, i++) {
        next = c->next;
        if (!polls[i].revents)
            continue;
        any = true;
        if (!on_message(p, c))
            close_connection(p, c);
    }
    if (polls[0].revents)
        take_fresh(p);
    return any;
}

static void *park_main(void *user) {
    struct park *p = user;
    pthread_setname_np(pthread_self(), "park");
    struct pollfd *polls = mem_array(PARK_CONNECTIONS_MAX + 1, sizeof(polls[0]));
    publish(p);
    while (!atomic_load(&p->stopping)) {
        if (run_round(p, polls)) {
            answer_waiting(p);
            publish(p);
        }
        collapse(p, clock_mono_ms());
    }
    free(polls);
    return NULL;
}

static void wake(struct park *p) {
    uint64_t one = 1;
    ssize_t n = write(p->wake_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || errno == EAGAIN);
}

/* ---- public ---- */

enum errc park_create(const struct park_options *opt, struct park **ret_p, struct error *err) {
    struct park *p = mem_alloc(sizeof(*p));
    p->opt = *opt;
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        free(p);
        return err_errno(err, "make an eventfd for parked models");
    }
    pthread_mutex_init(&p->lock, NULL);
    p->table = park_table_create(opt->budget_bytes);
    int failed = pthread_create(&p->thread, NULL, park_main, p);
    if (failed) {
        park_table_destroy(p->table);
        close(p->wake_fd);
        free(p);
        return err_set(err, ERR_EXHAUSTED, "start the thread of parked models: %s",
                       strerror(failed));
    }
    *ret_p = p;
    return OK;
}

void park_destroy(struct park *p) {
    if (!p)
        return;
    atomic_store(&p->stopping, true);
    wake(p);
    pthread_join(p->thread, NULL);
    take_fresh(p);
    while (p->connections)
        close_connection(p, p->connections);
    park_table_destroy(p->table);
    close(p->wake_fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

enum errc park_connect(struct park *p, int *ret_fd, struct error *err) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return err_errno(err, "make a socket for parked models");
    pthread_mutex_lock(&p->lock);
    bool full = p->num_connections == PARK_CONNECTIONS_MAX;
    if (!full) {
        struct connection *c = mem_alloc(sizeof(*c));
        *c = (struct connection){.next = p->fresh, .id = ++p->last_id, .fd = ends[0]};
        p->fresh = c;
        p->num_connections++;
    }
    pthread_mutex_unlock(&p->lock);
    if (full) {
        close(ends[0]);
        close(ends[1]);
        return err_set(err, ERR_EXHAUSTED, "parked models: %d replicas are connected already",
                       PARK_CONNECTIONS_MAX);
    }
    wake(p);
    *ret_fd = ends[1];
    return OK;
}
