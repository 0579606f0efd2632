/* Removing folders of which nobody knows how much is in them.
 *
 * A folder is renamed into the trash, which takes no time, and the thread empties the trash: there
 * is no queue, the folder is it, so a daemon that is killed finds what is left at its next start.
 *
 * What is removed was filled by a program that is not trusted, and is emptied by root. Every step
 * down is an open relative to the folder above that follows no link, so that a link to elsewhere is
 * removed and never entered. */
#include "core/node/trash.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

struct trash {
    char *dir;
    uint64_t num_thrown; /* names what comes in; the throwing thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* over `work` */
    pthread_cond_t wake;
    bool work;
    _Atomic int64_t stop_by_ms; /* monotonic; 0: not stopping */
};

struct limit {
    bool (*give_up)(const void *user);
    const void *user;
    bool gave_up;
};

/* Empties an open folder (taken). */
static bool empty_folder(int fd, int depth, struct limit *limit) {
    DIR *d = fdopendir(fd);
    bool empty = true;
    if (!d) {
        close(fd);
        return false;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        limit->gave_up = limit->gave_up || (limit->give_up && limit->give_up(limit->user));
        if (limit->gave_up)
            break;
        if (!unlinkat(dirfd(d), e->d_name, 0))
            continue;
        int below =
            depth < TRASH_DEPTH_MAX
                ? openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                : -1;
        if (below >= 0)
            empty_folder(below, depth + 1, limit);
        empty = !unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) && empty;
    }
    closedir(d);
    return empty && !limit->gave_up;
}

bool trash_remove_tree(const char *path, bool (*give_up)(const void *user), const void *user) {
    struct limit limit = {give_up, user, false};
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        empty_folder(fd, 0, &limit);
    return !rmdir(path);
}

static bool out_of_time(const void *user) {
    const struct trash *t = user;
    int64_t stop_by_ms = atomic_load(&t->stop_by_ms);
    return stop_by_ms && clock_mono_ms() >= stop_by_ms;
}

static void empty_trash(const struct trash *t) {
    struct limit limit = {out_of_time, t, false};
    int fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || empty_folder(fd, 0, &limit)) {
        rmdir(t->dir); /* not if something came meanwhile: then there is work */
        return;
    }
    log_warn("removed folders are not gone", "dir=%s %s", t->dir,
             limit.gave_up ? "the rest goes at the next start" : "something in it would not go");
}

static void *trash_main(void *user) {
    struct trash *t = user;
    pthread_setname_np(pthread_self(), "trash");
    pthread_mutex_lock(&t->lock);
    while (t->work || !atomic_load(&t->stop_by_ms)) {
        if (!t->work) {
            pthread_cond_wait(&t->wake, &t->lock);
            continue;
        }
        t->work = false;
        pthread_mutex_unlock(&t->lock);
        empty_trash(t);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

static void wake(struct trash *t) {
    pthread_mutex_lock(&t->lock);
    t->work = true;
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

struct trash *trash_create(const char *dir) {
    struct trash *t = mem_alloc(sizeof(*t));
    t->dir = mem_strdup(dir);
    t->work = true; /* what an earlier daemon left */
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    int rc = pthread_create(&t->thread, NULL, trash_main, t);
    ASSERT(!rc);
    return t;
}

void trash_destroy(struct trash *t) {
    if (!t)
        return;
    atomic_store(&t->stop_by_ms, clock_mono_ms() + TRASH_STOP_MS);
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    free(t->dir);
    free(t);
}

void trash_throw(struct trash *t, const char *path) {
    AUTO_FREE char *to = mem_printf("%s/%lld-%llu", t->dir, (long long)clock_wall_ms(),
                                    (unsigned long long)++t->num_thrown);
    bool moved = !rename(path, to);
    for (int tries = 0; !moved && tries < 2;
         tries++) { /* the thread may take the folder away again */
        mkdir(t->dir, 0700);
        moved = !rename(path, to);
    }
    if (moved)
        wake(t);
    else if (!access(path, F_OK))
        trash_remove_tree(path, NULL, NULL);
}
