/* One object, updated for ever: does the history stay bounded, and does anybody feel it?
 *
 *     store_updates FOLDER [UPDATES [WRITERS [BYTES]]]      1,000,000 8 2000
 *
 * Writers update one object of the store as fast as it acknowledges, each in a thread of its own.
 * Printed: updates a second, how long single updates took, and the largest that the database and
 * its log were meanwhile. Below the API, so that nothing but the store is measured; what one synced
 * write costs on the folder's disk stands beside it, because no update can take less. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/store.h"

enum { WRITERS_MAX = 64, BUCKETS = 4096, BUCKET_US = 50, SYNCS = 200, LOOK_EVERY = 100 };

struct writer {
    pthread_t thread;
    struct store *store;
    const char *pad;
    const char *path; /* of the database, for the one writer that looks at its size; else NULL */
    long updates;
    double largest_mib;
    int64_t slowest_ns;
    long slow;              /* above 50 ms */
    uint32_t took[BUCKETS]; /* by BUCKET_US; the last: all above */
    bool failed;
};

static void note(struct writer *w, int64_t ns) {
    int64_t bucket = ns / 1000 / BUCKET_US;
    w->took[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    w->slow += ns > 50000000;
    if (ns > w->slowest_ns)
        w->slowest_ns = ns;
}

static double size_mib(const char *path) {
    static const char *const endings[] = {"", "-wal"};
    double bytes = 0;
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        AUTO_FREE char *file = mem_printf("%s%s", path, endings[i]);
        struct stat st;
        bytes += stat(file, &st) ? 0 : (double)st.st_size;
    }
    return bytes / (1 << 20);
}

static void *write_all(void *user) {
    struct writer *w = user;
    for (long i = 0; i < w->updates && !w->failed; i++) {
        double now = w->path && i % LOOK_EVERY == 0 ? size_mib(w->path) : 0;
        w->largest_mib = now > w->largest_mib ? now : w->largest_mib;
        json_t *o = json_pack("{s:{s:s}, s:s, s:I}", "metadata", "name", "counter", "pad", w->pad,
                              "n", (json_int_t)clock_mono_ns());
        struct error err = ERROR_INIT;
        int64_t start_ns = clock_mono_ns();
        if (store_put(w->store, "core/configmaps/default/counter", o, STORE_EXPECT_ANY, NULL,
                      &err)) {
            fprintf(stderr, "store_updates: %s\n", err.text);
            w->failed = true;
        }
        note(w, clock_mono_ns() - start_ns);
    }
    return NULL;
}

static int by_value(const void *a, const void *b) {
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Median and slowest of synced 4 KiB writes. */
static void print_disk(const char *folder) {
    AUTO_FREE char *path = mem_printf("%s/sync", folder);
    char block[4096] = "";
    int64_t took[SYNCS];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < SYNCS; i++) {
        int64_t start_ns = clock_mono_ns();
        if (pwrite(fd, block, sizeof(block), (off_t)i * 4096) != sizeof(block) || fdatasync(fd))
            perror(path);
        took[i] = clock_mono_ns() - start_ns;
    }
    close(fd);
    unlink(path);
    size_t middle = SYNCS / 2;
    qsort(took, SYNCS, sizeof(took[0]), by_value);
    printf("a synced 4 KiB write on this disk: p50 %.2f ms, slowest of %d %.2f ms\n",
           (double)took[middle] / 1e6, SYNCS, (double)took[SYNCS - 1] / 1e6);
}

static double percentile_ms(const struct writer *writers, int num, double share) {
    long total = 0, seen = 0;
    for (int i = 0; i < num; i++)
        total += writers[i].updates;
    for (int b = 0; b < BUCKETS; b++) {
        for (int i = 0; i < num; i++)
            seen += writers[i].took[b];
        if ((double)seen >= share * (double)total)
            return (double)(b + 1) * BUCKET_US / 1000;
    }
    return (double)BUCKETS * BUCKET_US / 1000;
}

static void print_result(const struct writer *writers, int num, double seconds) {
    long updates = 0, slow = 0;
    int64_t slowest_ns = 0;
    for (int i = 0; i < num; i++) {
        updates += writers[i].updates;
        slow += writers[i].slow;
        if (writers[i].slowest_ns > slowest_ns)
            slowest_ns = writers[i].slowest_ns;
    }
    printf("%ld updates by %d writers in %.0f s, %.0f/s\n", updates, num, seconds,
           (double)updates / seconds);
    printf(
        "an update: p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, slowest %.1f ms, above 50 ms: %ld\n",
        percentile_ms(writers, num, 0.5), percentile_ms(writers, num, 0.99),
        percentile_ms(writers, num, 0.999), (double)slowest_ns / 1e6, slow);
    printf("database and its log at most %.1f MiB\n", writers[0].largest_mib);
}

int main(int argc, char **argv) {
    long updates = argc > 2 ? strtol(argv[2], NULL, 10) : 1000000;
    int num = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 8;
    long bytes = argc > 4 ? strtol(argv[4], NULL, 10) : 2000;
    if (argc < 2 || argc > 5 || updates < 1 || num < 1 || num > WRITERS_MAX || bytes < 1) {
        fprintf(stderr, "usage: store_updates FOLDER [UPDATES [WRITERS [BYTES]]]\n");
        return 2;
    }
    AUTO_FREE char *path = mem_printf("%s/state.db", argv[1]);
    AUTO_FREE char *pad = mem_alloc((size_t)bytes + 1);
    memset(pad, 'x', (size_t)bytes);
    struct error err = ERROR_INIT;
    struct store_options opt = {.path = path};
    AUTO(store) store = NULL;
    print_disk(argv[1]);
    if (store_open(&opt, &store, &err)) {
        fprintf(stderr, "store_updates: %s\n", err.text);
        return 1;
    }
    AUTO_FREE struct writer *writers = mem_array((size_t)num, sizeof(*writers));
    int64_t start_ns = clock_mono_ns();
    for (int i = 0; i < num; i++) {
        writers[i].store = store;
        writers[i].pad = pad;
        writers[i].path = i ? NULL : path;
        writers[i].updates = updates / num;
        if (pthread_create(&writers[i].thread, NULL, write_all, &writers[i]))
            return 1;
    }
    bool failed = false;
    for (int i = 0; i < num; i++) {
        pthread_join(writers[i].thread, NULL);
        failed |= writers[i].failed;
    }
    print_result(writers, num, (double)(clock_mono_ns() - start_ns) / 1e9);
    return failed;
}
