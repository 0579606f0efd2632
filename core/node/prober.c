/* The prober's thread.
 *
 *   supervisor ──add, remove──▶ orders ──▶ subjects: health (health.h) and what is being asked
 *   supervisor ◀──news──────────────────────────┘
 *
 * Subjects are the thread's own. One lock over the two queues, held for a few instructions. The
 * thread sleeps in poll on the descriptors of all questions under way, an eventfd for orders, and
 * the time of the next question: there are as many of them as a node has pods, a few hundred at
 * most, so the list is made anew each time. */
#include "core/node/prober.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"

/* A container that is asked, or one hook of a container, which is asking[0]. */
struct subject {
    struct subject *next;
    char *uid, *container;
    uint32_t restart;
    struct probes probes;
    struct health health;
    struct asking asking[HEALTH_PROBES];
    bool under_way[HEALTH_PROBES];
    bool remove; /* as an order: it is to go */
    bool is_hook, hook_over;
    enum prober_hook hook;
    int64_t hook_timeout_ms;
};

struct prober {
    struct running_table *running;
    void (*notify)(void *user);
    void *user;
    int wake_fd;
    pthread_t thread;
    struct subject *subjects; /* the thread's */
    pthread_mutex_t lock;     /* over what follows */
    bool stop;
    struct subject *orders, **orders_end;
    struct prober_news *news, **news_end;
    size_t num_news;
};

void probes_copy(struct probes *to, const struct probes *from) {
    for (int i = 0; i < HEALTH_PROBES; i++) {
        to->rules[i] = from->rules[i];
        question_copy(&to->questions[i], &from->questions[i]);
    }
    for (int i = 0; i < HOOKS; i++)
        question_copy(&to->hooks[i], &from->hooks[i]);
}

void probes_deinit(struct probes *p) {
    for (int i = 0; i < HEALTH_PROBES; i++)
        question_deinit(&p->questions[i]);
    for (int i = 0; i < HOOKS; i++)
        question_deinit(&p->hooks[i]);
}

void prober_news_free(struct prober_news *n) {
    if (!n)
        return;
    free(n->uid);
    free(n->container);
    free(n->text);
    free(n);
}

static void subject_free(struct subject *s) {
    for (int i = 0; i < HEALTH_PROBES; i++) {
        if (s->under_way[i])
            asking_end(&s->asking[i]);
    }
    probes_deinit(&s->probes);
    free(s->uid);
    free(s->container);
    free(s);
}

static void wake(struct prober *p) {
    uint64_t one = 1;
    ssize_t n = write(p->wake_fd, &one, sizeof(one));
    ASSERT(n == sizeof(one) || errno == EAGAIN);
}

/* ---- both sides ---- */

static void give_order(struct prober *p, struct subject *s) {
    pthread_mutex_lock(&p->lock);
    *p->orders_end = s;
    p->orders_end = &s->next;
    pthread_mutex_unlock(&p->lock);
    wake(p);
}

static struct subject *subject_of(const struct prober_target *target) {
    struct subject *s = mem_alloc(sizeof(*s));
    s->uid = mem_strdup(target->uid);
    s->container = mem_strdup(target->container);
    s->restart = target->restart;
    probes_copy(&s->probes, target->probes);
    return s;
}

void prober_add(struct prober *p, const struct prober_target *target) {
    struct subject *s = subject_of(target);
    health_init(&s->health, s->probes.rules, clock_mono_ms());
    give_order(p, s);
}

void prober_run_hook(struct prober *p, const struct prober_target *target, enum prober_hook hook,
                     int64_t timeout_ms) {
    struct subject *s = subject_of(target);
    s->is_hook = true;
    s->hook = hook;
    s->hook_timeout_ms = timeout_ms;
    s->health.fatal = HEALTH_PROBES;
    give_order(p, s);
}

void prober_remove(struct prober *p, const char *uid, const char *container) {
    struct subject *s = mem_alloc(sizeof(*s));
    s->uid = mem_strdup(uid);
    s->container = mem_strdup(container);
    s->remove = true;
    give_order(p, s);
}

struct prober_news *prober_take(struct prober *p) {
    pthread_mutex_lock(&p->lock);
    struct prober_news *n = p->news;
    if (n) {
        p->news = n->next;
        p->num_news--;
        if (!p->news)
            p->news_end = &p->news;
    }
    pthread_mutex_unlock(&p->lock);
    return n;
}

/* Takes the text. */
static void tell(struct prober *p, const struct subject *s, enum prober_news_kind kind,
                 enum health_probe probe, char *text) {
    struct prober_news *n = mem_alloc(sizeof(*n));
    *n = (struct prober_news){.uid = mem_strdup(s->uid),
                              .container = mem_strdup(s->container),
                              .restart = s->restart,
                              .kind = kind,
                              .started = s->health.started,
                              .ready = s->health.ready,
                              .fatal = s->health.fatal,
                              .probe = probe,
                              .hook = s->hook,
                              .text = text};
    pthread_mutex_lock(&p->lock);
    bool full = kind != PROBER_STATE && kind != PROBER_HOOK && p->num_news >= PROBER_NEWS_MAX;
    if (!full) {
        *p->news_end = n;
        p->news_end = &n->next;
        p->num_news++;
    }
    pthread_mutex_unlock(&p->lock);
    if (full)
        prober_news_free(n);
    else
        p->notify(p->user);
}

/* ---- the thread ---- */

static void take_answer(struct prober *p, struct subject *s, enum health_probe probe,
                        enum health_answer answer, char *why) {
    const struct health was = s->health;
    health_observe(&s->health, probe, answer, clock_mono_ms());
    if (answer != HEALTH_YES && !(answer == HEALTH_NO && s->probes.questions[probe].quiet))
        tell(p, s, answer == HEALTH_NO ? PROBER_NO : PROBER_ERROR, probe, why);
    else
        free(why);
    if (was.started != s->health.started || was.ready != s->health.ready ||
        was.fatal != s->health.fatal)
        tell(p, s, PROBER_STATE, probe, NULL);
}

static enum errc ask(struct prober *p, const struct subject *s, struct asking_options opt,
                     struct asking *ret_asking, struct error *err) {
    struct running container = {.pidfd = -1};
    enum errc rc = OK;
    if (opt.question->way == QUESTION_EXEC &&
        !running_table_find(p->running, s->uid, s->container, &container))
        rc = err_set(err, ERR_NOT_FOUND, "container not running");
    opt.container = &container;
    if (!rc)
        rc = asking_start(&opt, ret_asking, err);
    if (container.pidfd >= 0)
        running_deinit(&container);
    return rc;
}

static void begin(struct prober *p, struct subject *s, enum health_probe probe, int64_t now) {
    struct error err = ERROR_INIT;
    struct asking_options opt = {.question = &s->probes.questions[probe],
                                 .timeout_ms = s->probes.rules[probe].timeout_ms,
                                 .now_ms = now};
    s->under_way[probe] = !ask(p, s, opt, &s->asking[probe], &err);
    if (!s->under_way[probe])
        take_answer(p, s, probe, HEALTH_UNKNOWN, mem_strdup(err.text));
}

/* Begins the hook, or sees whether it is over. */
static void run_hook(struct prober *p, struct subject *s, int64_t now) {
    struct error err = ERROR_INIT;
    struct buf why = BUF_INIT;
    bool yes = false;
    struct asking_options opt = {
        .question = &s->probes.hooks[s->hook], .timeout_ms = s->hook_timeout_ms, .now_ms = now};
    if (!s->under_way[0] && ask(p, s, opt, &s->asking[0], &err)) {
        s->hook_over = true;
        tell(p, s, PROBER_HOOK, HEALTH_PROBES, mem_strdup(err.text));
        return;
    }
    s->under_way[0] = true;
    if (!asking_advance(&s->asking[0], now, &yes, &why))
        return;
    asking_end(&s->asking[0]);
    s->under_way[0] = false;
    s->hook_over = true;
    buf_reserve(&why, 1);
    tell(p, s, PROBER_HOOK, HEALTH_PROBES, yes ? NULL : mem_strdup(why.data));
    buf_deinit(&why);
}

static void advance(struct prober *p, struct subject *s, int64_t now) {
    for (int i = 0; i < HEALTH_PROBES; i++) {
        struct buf why = BUF_INIT;
        bool yes;
        if (!s->under_way[i] || !asking_advance(&s->asking[i], now, &yes, &why))
            continue;
        asking_end(&s->asking[i]);
        s->under_way[i] = false;
        buf_reserve(&why, 1);
        take_answer(p, s, i, yes ? HEALTH_YES : HEALTH_NO, buf_steal(&why));
    }
}

/* A container that is asked anew forgets what it was asked before; one that is not asked any more
 * also its hooks. */
static bool replaces(const struct subject *order, const struct subject *s) {
    return !strcmp(s->uid, order->uid) && !strcmp(s->container, order->container) &&
           (order->remove || (!order->is_hook && !s->is_hook));
}

static void carry_out(struct prober *p, struct subject *order) {
    for (struct subject **at = &p->subjects, *s; (s = *at);) {
        if (!replaces(order, s)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        subject_free(s);
    }
    if (order->remove) {
        subject_free(order);
        return;
    }
    order->next = p->subjects;
    p->subjects = order;
}

/* False: the end has come. */
static bool carry_out_orders(struct prober *p) {
    pthread_mutex_lock(&p->lock);
    struct subject *orders = p->orders;
    bool stop = p->stop;
    p->orders = NULL;
    p->orders_end = &p->orders;
    pthread_mutex_unlock(&p->lock);
    for (struct subject *next; orders; orders = next) {
        next = orders->next;
        carry_out(p, orders);
    }
    return !stop;
}

static int64_t earlier(int64_t a, int64_t b) {
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* Begins what is due; gives ms until something is, -1: nothing will be. */
static int64_t run(struct prober *p) {
    int64_t wait_ms = -1;
    for (struct subject **at = &p->subjects, *s; (s = *at);) {
        int64_t now = clock_mono_ms(), next_ms = -1;
        enum health_probe probe;
        if (s->is_hook)
            run_hook(p, s, now);
        else
            advance(p, s, now);
        while (!s->is_hook && (probe = health_next(&s->health, now, &next_ms)) < HEALTH_PROBES)
            begin(p, s, probe, now);
        wait_ms = earlier(wait_ms, next_ms);
        for (int i = 0; i < HEALTH_PROBES; i++) {
            int64_t left_ms = s->asking[i].deadline_ms - now;
            if (s->under_way[i])
                wait_ms = earlier(wait_ms, left_ms > 0 ? left_ms : 0);
        }
        if (!s->hook_over) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        subject_free(s);
    }
    return wait_ms;
}

static void sleep_until(struct prober *p, int64_t wait_ms) {
    size_t num = 1, cap = 1;
    for (const struct subject *s = p->subjects; s; s = s->next)
        cap += HEALTH_PROBES * QUESTION_FDS_MAX;
    struct pollfd *fds = mem_array(cap, sizeof(fds[0]));
    fds[0] = (struct pollfd){.fd = p->wake_fd, .events = POLLIN};
    for (const struct subject *s = p->subjects; s; s = s->next) {
        for (int i = 0; i < HEALTH_PROBES; i++)
            num += s->under_way[i] ? asking_fds(&s->asking[i], fds + num) : 0;
    }
    poll(fds, num, wait_ms > INT_MAX ? INT_MAX : (int)wait_ms);
    free(fds);
    uint64_t count;
    ssize_t n = read(p->wake_fd, &count, sizeof(count));
    (void)n; /* EAGAIN: something else woke us */
}

static void *prober_main(void *user) {
    struct prober *p = user;
    pthread_setname_np(pthread_self(), "prober");
    while (carry_out_orders(p))
        sleep_until(p, run(p));
    /* Here: commands are this thread's children, and die with it. */
    for (struct subject *s = p->subjects, *next; s; s = next) {
        next = s->next;
        subject_free(s);
    }
    return NULL;
}

enum errc prober_create(struct running_table *running, void (*notify)(void *user), void *user,
                        struct prober **ret_p, struct error *err) {
    struct prober *p = mem_alloc(sizeof(*p));
    p->running = running;
    p->notify = notify;
    p->user = user;
    p->orders_end = &p->orders;
    p->news_end = &p->news;
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        free(p);
        return err_errno(err, "make the prober's eventfd");
    }
    pthread_mutex_init(&p->lock, NULL);
    int rc = pthread_create(&p->thread, NULL, prober_main, p);
    ASSERT(!rc);
    *ret_p = p;
    return OK;
}

void prober_destroy(struct prober *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_mutex_unlock(&p->lock);
    wake(p);
    pthread_join(p->thread, NULL);
    for (struct prober_news *n; (n = prober_take(p));)
        prober_news_free(n);
    close(p->wake_fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
