/* The thread pool. A run publishes (fn, arg, num_items) and sets `tickets` to (run, items left);
 * whoever wants an item takes one off by compare-and-swap, the owner too. The owner waits for items
 * that were taken and are not done, not for threads: one that the kernel lets sleep on delays
 * nothing, the others take its share.
 *
 * A thread that holds a ticket may read fn and arg: the owner changes them only when no item is
 * left to do. The run's number in the ticket keeps a late thread from taking an item of the next
 * run by the count of the last.
 *
 * Who computes an item never changes its result: items are independent, and each kernel fixes the
 * order of its sums.
 *
 * Sleeping: a thread counts itself in `sleepers`, then waits on `epoch` with the value it has seen.
 * The owner raises `epoch` and then reads `sleepers`. Both are sequentially consistent, so either
 * the owner sees the sleeper and wakes it, or the kernel sees the new epoch and does not let it
 * sleep. The owner waits for `num_undone` in the same way. */
#include "engine/cpu/thread_pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 3000 /* about 50 us: longer than the gap between two loops of a step */ };

struct thread_pool {
    uint32_t num_threads; /* incl. the owner */
    uint32_t num_started;
    pthread_t *threads;          /* [num_threads - 1] */
    _Atomic uint64_t tickets;    /* run << 32 | items that nobody took yet */
    _Atomic uint32_t num_undone; /* items that are not finished */
    _Atomic uint32_t epoch;      /* raised with each run, and to stop */
    _Atomic uint32_t sleepers;
    _Atomic uint32_t owner_sleeps;
    _Atomic uint32_t stop;
    thread_pool_fn *fn;
    void *arg;
    uint32_t num_items;
};

struct pool_thread {
    struct thread_pool *pool;
    uint32_t index;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int num_threads) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, num_threads, NULL, NULL, 0);
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Does items until none is left to take. */
static void take_items(struct thread_pool *pool, uint32_t thread) {
    uint64_t ticket = atomic_load(&pool->tickets);
    while ((uint32_t)ticket) {
        if (!atomic_compare_exchange_weak(&pool->tickets, &ticket, ticket - 1))
            continue;
        pool->fn(pool->arg, pool->num_items - (uint32_t)ticket, thread);
        if (atomic_fetch_sub(&pool->num_undone, 1) == 1 && atomic_load(&pool->owner_sleeps))
            futex_wake(&pool->num_undone, 1);
        ticket = atomic_load(&pool->tickets);
    }
}

static void wait_for_epoch(struct thread_pool *pool, uint32_t seen) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&pool->epoch) != seen)
            return;
        relax();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->epoch) == seen)
        futex_wait(&pool->epoch, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *thread_main(void *arg) {
    struct pool_thread self = *(struct pool_thread *)arg;
    struct thread_pool *pool = self.pool;
    free(arg);
    while (!atomic_load(&pool->stop)) {
        uint32_t seen = atomic_load(&pool->epoch);
        take_items(pool, self.index);
        if (!atomic_load(&pool->stop))
            wait_for_epoch(pool, seen);
    }
    return NULL;
}

static void wait_for_items(struct thread_pool *pool) {
    for (int i = 0; i < SPIN_ROUNDS; i++) {
        if (!atomic_load(&pool->num_undone))
            return;
        relax();
    }
    atomic_store(&pool->owner_sleeps, 1);
    uint32_t undone;
    while ((undone = atomic_load(&pool->num_undone)))
        futex_wait(&pool->num_undone, undone);
    atomic_store(&pool->owner_sleeps, 0);
}

static void raise_epoch(struct thread_pool *pool) {
    atomic_fetch_add(&pool->epoch, 1);
    if (atomic_load(&pool->sleepers))
        futex_wake(&pool->epoch, (int)pool->num_started);
}

void thread_pool_run(struct thread_pool *pool, thread_pool_fn *fn, void *arg, uint32_t num_items) {
    if (num_items <= 1 || !pool->num_started) {
        for (uint32_t item = 0; item < num_items; item++)
            fn(arg, item, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->num_items = num_items;
    uint64_t run = (atomic_load(&pool->tickets) >> 32) + 1;
    atomic_store(&pool->num_undone, num_items);
    atomic_store(&pool->tickets, run << 32 | num_items);
    raise_epoch(pool);
    take_items(pool, 0);
    wait_for_items(pool);
}

uint32_t thread_pool_num_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set))
        return 1; /* a machine with more CPUs than cpu_set_t holds */
    int count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}

/* The pool's threads take no signals: those are the business of whoever owns the process. */
static int start_thread(struct thread_pool *pool, uint32_t index) {
    sigset_t all, was;
    struct pool_thread *self = mem_alloc(sizeof(*self));
    *self = (struct pool_thread){pool, index};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int rc = pthread_create(&pool->threads[index - 1], NULL, thread_main, self);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (rc)
        free(self);
    return rc;
}

enum errc thread_pool_create(uint32_t num_threads, struct thread_pool **ret_pool,
                             struct error *err) {
    if (!num_threads || num_threads > THREAD_POOL_THREADS_MAX)
        return err_set(err, ERR_INVALID, "threads: %u, expected 1 to %d", num_threads,
                       THREAD_POOL_THREADS_MAX);
    AUTO(thread_pool) pool = mem_alloc(sizeof(*pool));
    pool->num_threads = num_threads;
    pool->threads = mem_array(num_threads, sizeof(*pool->threads));
    for (uint32_t i = 1; i < num_threads; i++) {
        int rc = start_thread(pool, i);
        if (rc)
            return err_set(err, ERR_EXHAUSTED, "threads: cannot start number %u of %u: %s", i + 1,
                           num_threads, strerror(rc));
        pool->num_started++;
    }
    *ret_pool = steal(pool);
    return OK;
}

void thread_pool_destroy(struct thread_pool *pool) {
    if (!pool)
        return;
    atomic_store(&pool->stop, 1);
    raise_epoch(pool);
    for (uint32_t i = 0; i < pool->num_started; i++)
        pthread_join(pool->threads[i], NULL);
    free(pool->threads);
    free(pool);
}

uint32_t thread_pool_num_threads(const struct thread_pool *pool) {
    return pool->num_threads;
}
