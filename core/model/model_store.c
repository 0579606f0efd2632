/* The model store.
 *
 * Everything that counts happens by one rename or link: a blob appears under its digest when it was
 * read back and found right, a view appears whole, and a manifest, which makes the model, comes
 * last. Each is synced before the next, so a process that is killed, or a machine that loses power,
 * leaves either the model or pieces that nobody takes for one.
 *
 * A blob's link count says whether it is needed: one name is the blob's own, every further one a
 * view or a model on its way. So nothing has to be counted, and nothing can be counted wrong.
 *
 * Use is a shared flock, which the kernel takes back from a process that dies. Removing wants it
 * exclusively and does not wait. The lock files stay: one that was removed could be held by
 * somebody who does not know. */
#include "core/model/model_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/model/model_ref.h"
#include "core/model/model_store_files.h"

enum {
    READ_BYTES = 1 << 20,
    TREE_DEPTH_MAX = MODEL_FILE_PATH_PARTS_MAX + 4,
    DISK_RESERVE_BYTES = 64 << 20, /* that a download leaves on the disk for others */
};

/* Places. */

void model_store_id(const char *text, char out[MODEL_ID_BYTES]) {
    char hex[DIGEST_HEX_BYTES];
    digest_text(text, hex);
    memcpy(out, hex, MODEL_ID_BYTES - 1);
    out[MODEL_ID_BYTES - 1] = '\0';
}

char *model_store_path(const struct model_store *s, const char *folder, const char *name) {
    return name ? mem_printf("%s/%s/%s", s->dir, folder, name)
                : mem_printf("%s/%s", s->dir, folder);
}

/* Gives the path of something that is named after the reference. */
static char *reference_path(const struct model_store *s, const char *folder, const char *reference,
                            const char *suffix) {
    char id[MODEL_ID_BYTES];
    model_store_id(reference, id);
    return mem_printf("%s/%s/%s%s", s->dir, folder, id, suffix);
}

int model_store_flock(const char *path, int how) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    while (fd >= 0 && flock(fd, how)) {
        if (errno == EINTR)
            continue;
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

enum errc model_store_lock(const struct model_store *s, int *ret_fd, struct error *err) {
    AUTO_FREE char *path = model_store_path(s, "lock", NULL);
    int fd = model_store_flock(path, LOCK_EX);
    if (fd < 0)
        return err_errno(err, "lock the model store, %s", path);
    *ret_fd = fd;
    return OK;
}

enum errc model_store_sync_dir(const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && !fsync(fd);
    enum errc rc = ok ? OK : err_errno(err, "sync folder %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

static void empty_folder(int fd, int depth) {
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !unlinkat(dirfd(d), e->d_name, 0) || depth == TREE_DEPTH_MAX)
            continue;
        int below = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below >= 0)
            empty_folder(below, depth + 1);
        unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
    }
    closedir(d);
}

void model_store_remove_tree(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0)
        empty_folder(fd, 0);
    rmdir(path);
}

/* Manifests. */

void model_manifest_destroy(struct model_manifest *m) {
    if (!m)
        return;
    for (size_t i = 0; i < m->num_files; i++)
        free(m->files[i].path);
    free(m->files);
    free(m->reference);
    free(m->revision);
    free(m->dir);
    free(m);
}

json_t *model_manifest_json(const struct model_manifest *m) {
    char view[MODEL_ID_BYTES];
    model_store_view(m, view);
    json_t *files = json_array();
    for (size_t i = 0; i < m->num_files; i++)
        json_array_append_new(files, json_pack("{s:s, s:I, s:s}", "path", m->files[i].path, "bytes",
                                               (json_int_t)m->files[i].bytes, "sha256",
                                               m->files[i].sha256));
    json_t *o =
        json_pack("{s:s, s:s?, s:s, s:I, s:o}", "reference", m->reference, "revision", m->revision,
                  "view", view, "addedMs", (json_int_t)m->added_ms, "files", files);
    ASSERT(o);
    return o;
}

void model_store_view(const struct model_manifest *m, char out[MODEL_ID_BYTES]) {
    AUTO_BUF text = BUF_INIT;
    for (size_t i = 0; i < m->num_files; i++)
        buf_printf(&text, "%s %s\n", m->files[i].sha256, m->files[i].path);
    model_store_id(text.data ? text.data : "", out);
}

static bool read_files(const json_t *list, struct model_manifest *m) {
    size_t i;
    json_t *f;
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > MODEL_FILES_MAX)
        return false;
    m->files = mem_array(json_array_size(list), sizeof(m->files[0]));
    json_array_foreach (list, i, f) {
        const char *path = json_string_value(json_object_get(f, "path"));
        const char *sha256 = json_string_value(json_object_get(f, "sha256"));
        const json_t *bytes = json_object_get(f, "bytes");
        if (!path || !model_ref_path_ok(path) || !sha256 || !digest_is_sha256(sha256) ||
            !json_is_integer(bytes) || json_integer_value(bytes) < 0)
            return false;
        struct model_file *file = &m->files[m->num_files++];
        file->path = mem_strdup(path);
        file->bytes = (uint64_t)json_integer_value(bytes);
        memcpy(file->sha256, sha256, DIGEST_HEX_BYTES);
        m->bytes += file->bytes;
    }
    return true;
}

/* The manifest in a file; NULL: it is not there, or damaged, which is the same. */
static struct model_manifest *read_manifest(const struct model_store *s, const char *path) {
    struct stat st = {0};
    FILE *f = fopen(path, "re");
    bool fits = f && !fstat(fileno(f), &st) && st.st_size <= MODEL_MANIFEST_BYTES_MAX;
    json_t *o = fits ? json_loadf(f, 0, NULL) : NULL;
    if (f)
        fclose(f);
    const char *reference = json_string_value(json_object_get(o, "reference"));
    char view[MODEL_ID_BYTES];
    AUTO(model_manifest) m = mem_alloc(sizeof(*m));
    if (!reference || !read_files(json_object_get(o, "files"), m)) {
        json_decref(o);
        return NULL;
    }
    m->reference = mem_strdup(reference);
    m->revision = mem_strdup(json_string_value(json_object_get(o, "revision")));
    m->added_ms = json_integer_value(json_object_get(o, "addedMs"));
    m->used_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    model_store_view(m, view);
    m->dir = model_store_path(s, "views", view);
    json_decref(o);
    return steal(m);
}

static enum errc write_synced(const char *path, const char *text, struct error *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t len = strlen(text);
    bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len && !fsync(fd);
    enum errc rc = ok ? OK : err_errno(err, "write %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

enum errc model_store_write_manifest(const struct model_store *s, const struct model_manifest *m,
                                     struct error *err) {
    AUTO_FREE char *path = reference_path(s, "manifests", m->reference, ".json");
    AUTO_FREE char *fresh = mem_printf("%s.new", path);
    AUTO_FREE char *folder = model_store_path(s, "manifests", NULL);
    json_t *o = model_manifest_json(m);
    AUTO_FREE char *text = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    if (write_synced(fresh, text, err))
        return err->code;
    if (rename(fresh, path))
        return err_errno(err, "write %s", path);
    return model_store_sync_dir(folder, err);
}

enum errc model_store_find(const struct model_store *s, const char *reference,
                           struct model_manifest **ret_m, struct error *err) {
    AUTO_FREE char *path = reference_path(s, "manifests", reference, ".json");
    struct model_manifest *m = read_manifest(s, path);
    if (!m)
        return err_set(err, ERR_NOT_FOUND, "model \"%.512s\" is not in the model store %s",
                       reference, s->dir);
    *ret_m = m;
    return OK;
}

static int by_reference(const void *a, const void *b) {
    const struct model_manifest *const *x = a, *const *y = b;
    return strcmp((*x)->reference, (*y)->reference);
}

enum errc model_store_list(const struct model_store *s, struct model_list *ret_list,
                           struct error *err) {
    AUTO_FREE char *folder = model_store_path(s, "manifests", NULL);
    struct model_list l = {0};
    size_t cap = 0;
    DIR *d = opendir(folder);
    if (!d)
        return err_errno(err, "read folder %s", folder);
    for (struct dirent *e; (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        AUTO_FREE char *path = mem_printf("%s/%s", folder, e->d_name);
        struct model_manifest *m = dot && !strcmp(dot, ".json") ? read_manifest(s, path) : NULL;
        if (!m)
            continue;
        if (l.num_items == cap)
            l.items = mem_realloc(l.items, (cap = cap ? cap * 2 : 16) * sizeof(l.items[0]));
        l.items[l.num_items++] = m;
    }
    closedir(d);
    if (l.num_items)
        qsort(l.items, l.num_items, sizeof(l.items[0]), by_reference);
    *ret_list = l;
    return OK;
}

void model_list_deinit(struct model_list *l) {
    for (size_t i = 0; i < l->num_items; i++)
        model_manifest_destroy(l->items[i]);
    free(l->items);
    *l = (struct model_list){0};
}

/* Use. */

struct model_hold {
    int fd;
};

enum errc model_store_hold(const struct model_store *s, const char *reference,
                           struct model_hold **ret_hold, struct model_manifest **ret_m,
                           struct error *err) {
    AUTO_FREE char *path = reference_path(s, "holds", reference, "");
    AUTO_FREE char *manifest = reference_path(s, "manifests", reference, ".json");
    int fd = model_store_flock(path, LOCK_SH);
    if (fd < 0)
        return err_errno(err, "lock %s", path);
    if (model_store_find(s, reference, ret_m, err)) {
        close(fd);
        return err->code;
    }
    utimensat(AT_FDCWD, manifest, NULL, 0); /* used now; if not, it is only evicted sooner */
    *ret_hold = mem_alloc(sizeof(**ret_hold));
    (*ret_hold)->fd = fd;
    return OK;
}

void model_hold_close(struct model_hold *h) {
    if (!h)
        return;
    close(h->fd);
    free(h);
}

bool model_store_in_use(const struct model_store *s, const char *reference) {
    AUTO_FREE char *path = reference_path(s, "holds", reference, "");
    int fd = model_store_flock(path, LOCK_EX | LOCK_NB);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EWOULDBLOCK;
}

/* Under the lock. Removes the manifest; the sweep takes what nobody needs then. */
static enum errc forget(const struct model_store *s, const char *reference, struct error *err) {
    AUTO_FREE char *path = reference_path(s, "manifests", reference, ".json");
    AUTO_FREE char *folder = model_store_path(s, "manifests", NULL);
    AUTO_FREE char *hold_path = reference_path(s, "holds", reference, "");
    int hold = model_store_flock(hold_path, LOCK_EX | LOCK_NB);
    if (hold < 0 && errno == EWOULDBLOCK)
        return err_set(err, ERR_CONFLICT,
                       "model \"%.512s\" is in use by the daemon: a service or a LocalModelCache "
                       "refers to it",
                       reference);
    if (hold < 0)
        return err_errno(err, "lock %s", hold_path);
    enum errc rc = OK;
    if (unlink(path))
        rc = errno == ENOENT
                 ? err_set(err, ERR_NOT_FOUND, "model \"%.512s\" is not in the model store %s",
                           reference, s->dir)
                 : err_errno(err, "remove %s", path);
    if (!rc)
        rc = model_store_sync_dir(folder, err);
    close(hold);
    return rc;
}

enum errc model_store_remove(const struct model_store *s, const char *reference,
                             struct error *err) {
    int lock = -1;
    if (model_store_lock(s, &lock, err))
        return err->code;
    enum errc rc = forget(s, reference, err);
    if (!rc)
        model_store_sweep(s);
    close(lock);
    return rc;
}

/* Sweeping. */

/* Calls visit with each name in a folder of the store. */
static void each_name(const struct model_store *s, const char *folder,
                      void (*visit)(const struct model_store *s, const char *path, const char *name,
                                    const void *user),
                      const void *user) {
    AUTO_FREE char *dir = model_store_path(s, folder, NULL);
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));) {
        AUTO_FREE char *path = mem_printf("%s/%s", dir, e->d_name);
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            visit(s, path, e->d_name, user);
    }
    closedir(d);
}

static void sweep_view(const struct model_store *s, const char *path, const char *name,
                       const void *user) {
    const struct model_list *l = user;
    for (size_t i = 0; i < l->num_items; i++) {
        if (!strcmp(strrchr(l->items[i]->dir, '/') + 1, name))
            return;
    }
    model_store_remove_tree(path);
}

static void sweep_blob(const struct model_store *s, const char *path, const char *name,
                       const void *user) {
    struct stat st;
    if (!lstat(path, &st) && S_ISREG(st.st_mode) && st.st_nlink == 1)
        unlink(path);
}

static void sweep_incoming(const struct model_store *s, const char *path, const char *name,
                           const void *user) {
    struct stat st;
    AUTO_FREE char *lock_path = mem_printf("%s/lock", path);
    if (lstat(path, &st) || time(NULL) - st.st_mtim.tv_sec < MODEL_INCOMING_SECONDS_MAX)
        return;
    int lock = model_store_flock(lock_path, LOCK_EX | LOCK_NB);
    if (lock < 0)
        return;
    model_store_remove_tree(path);
    close(lock);
}

void model_store_sweep(const struct model_store *s) {
    struct model_list l = {0};
    struct error err = ERROR_INIT;
    if (model_store_list(s, &l, &err))
        return; /* what cannot be read is not swept */
    each_name(s, "views", sweep_view, &l);
    each_name(s, "incoming", sweep_incoming, NULL);
    each_name(s, "blobs", sweep_blob, NULL);
    model_list_deinit(&l);
}

/* Room. */

static void add_bytes(const struct model_store *s, const char *path, const char *name,
                      const void *user) {
    uint64_t *sum;
    struct stat st;
    memcpy(&sum, user, sizeof(sum));
    if (!lstat(path, &st) && S_ISREG(st.st_mode))
        *sum += (uint64_t)st.st_size;
}

/* A part is as sparse as it is unfinished. */
static void add_allocated(const struct model_store *s, const char *path, const char *name,
                          const void *user) {
    uint64_t *sum;
    struct stat st;
    memcpy(&sum, user, sizeof(sum));
    if (!lstat(path, &st) && S_ISREG(st.st_mode))
        *sum += (uint64_t)st.st_blocks * 512;
}

/* A finished file has a blob's name, too, which counts. */
static void add_parts(const struct model_store *s, const char *path, const char *name,
                      const void *user) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        AUTO_FREE char *file = mem_printf("%s/%s", path, e->d_name);
        size_t len = strlen(e->d_name);
        if (len > 5 && !strcmp(e->d_name + len - 5, ".part"))
            add_allocated(s, file, e->d_name, user);
    }
    if (d)
        closedir(d);
}

uint64_t model_store_bytes(const struct model_store *s) {
    uint64_t sum = 0, *to = &sum;
    each_name(s, "blobs", add_bytes, &to);
    each_name(s, "incoming", add_parts, &to);
    return sum;
}

static int by_use(const void *a, const void *b) {
    const struct model_manifest *const *x = a, *const *y = b;
    return ((*x)->used_ms > (*y)->used_ms) - ((*x)->used_ms < (*y)->used_ms);
}

/* How many bytes are missing; 0: there is room. */
static uint64_t bytes_missing(const struct model_store *s, const struct model_room *room) {
    struct statvfs fs;
    uint64_t used = model_store_bytes(s), missing = 0;
    if (room->bytes_max && used + room->bytes > room->bytes_max)
        missing = used + room->bytes - room->bytes_max;
    if (!statvfs(s->dir, &fs)) {
        uint64_t has = (uint64_t)fs.f_bavail * fs.f_frsize;
        uint64_t wants = room->bytes + DISK_RESERVE_BYTES;
        if (wants > has && wants - has > missing)
            missing = wants - has;
    }
    return missing;
}

static enum errc no_room(const struct model_store *s, const struct model_room *room,
                         struct error *err) {
    struct statvfs fs = {0};
    char budget[64] = "no budget";
    if (room->bytes_max)
        snprintf(budget, sizeof(budget), "budget (modelStoreBytesMax) %llu",
                 (unsigned long long)room->bytes_max);
    if (statvfs(s->dir, &fs))
        fs.f_bavail = 0;
    return err_set(err, ERR_EXHAUSTED,
                   "no room for %llu bytes in the model store %s: it holds %llu, %s, the disk has "
                   "%llu; remove models with \"inferd model rm\"",
                   (unsigned long long)room->bytes, s->dir,
                   (unsigned long long)model_store_bytes(s), budget,
                   (unsigned long long)fs.f_bavail * fs.f_frsize);
}

/* Under the lock. What evicting everything that is not in use could free at most. */
static uint64_t evictable_bytes(const struct model_store *s, const struct model_list *l) {
    uint64_t sum = 0;
    for (size_t i = 0; i < l->num_items; i++) {
        if (!model_store_in_use(s, l->items[i]->reference))
            sum += l->items[i]->bytes;
    }
    return sum;
}

enum errc model_store_make_room(const struct model_store *s, const struct model_room *room,
                                struct error *err) {
    struct model_list l = {0};
    int lock = -1;
    if (!bytes_missing(s, room))
        return OK;
    if (model_store_lock(s, &lock, err))
        return err->code;
    enum errc rc = model_store_list(s, &l, err);
    if (rc) {
        close(lock);
        return rc;
    }
    uint64_t missing = bytes_missing(s, room);
    if (missing && (!room->may_evict || evictable_bytes(s, &l) < missing))
        rc = no_room(s, room, err);
    if (l.num_items)
        qsort(l.items, l.num_items, sizeof(l.items[0]), by_use);
    for (size_t i = 0; i < l.num_items && !rc && bytes_missing(s, room); i++) {
        struct error in_use = ERROR_INIT;
        if (!forget(s, l.items[i]->reference, &in_use))
            model_store_sweep(s);
    }
    if (!rc && bytes_missing(s, room))
        rc = no_room(s, room, err);
    model_list_deinit(&l);
    close(lock);
    return rc;
}

/* Verifying. */

bool model_store_has_blob(const struct model_store *s, const char *sha256, uint64_t *ret_bytes) {
    struct stat st;
    AUTO_FREE char *path = model_store_path(s, "blobs", sha256);
    if (lstat(path, &st) || !S_ISREG(st.st_mode))
        return false;
    *ret_bytes = (uint64_t)st.st_size;
    return true;
}

/* What is wrong with the file in the view; NULL: nothing. */
static const char *check_file(const struct model_manifest *m, const struct model_file *file) {
    AUTO_FREE char *path = mem_printf("%s/%s", m->dir, file->path);
    AUTO_FREE char *data = mem_alloc(READ_BYTES);
    AUTO(digest) d = digest_create(DIGEST_SHA256);
    struct stat st;
    char hex[DIGEST_HEX_BYTES];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        if (fd >= 0)
            close(fd);
        return "missing";
    }
    ssize_t n;
    while ((n = read(fd, data, READ_BYTES)) > 0)
        digest_update(d, data, (size_t)n);
    close(fd);
    digest_hex(d, hex);
    return n < 0                                ? "unreadable"
           : (uint64_t)st.st_size < file->bytes ? "too short"
           : strcmp(hex, file->sha256) != 0     ? "wrong digest"
                                                : NULL;
}

size_t model_store_verify(const struct model_store *s, const struct model_manifest *m,
                          const struct model_verify *v) {
    size_t num_bad = 0;
    for (size_t i = 0; i < m->num_files; i++) {
        const char *what = check_file(m, &m->files[i]);
        if (!what)
            continue;
        num_bad++;
        v->tell(v->user, &m->files[i], what);
    }
    return num_bad;
}

/* Life. */

static enum errc make_folders(const char *dir, struct error *err) {
    static const char *const below[] = {"blobs", "views", "manifests", "holds", "incoming"};
    AUTO_FREE char *path = mem_strdup(dir);
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0755); /* the last one tells whether it worked */
        *p = '/';
    }
    if (mkdir(dir, 0755) && errno != EEXIST)
        return err_errno(err, "make folder %s", dir);
    for (size_t i = 0; i < ARRAY_LEN(below); i++) {
        AUTO_FREE char *sub = mem_printf("%s/%s", dir, below[i]);
        if (mkdir(sub, 0755) && errno != EEXIST)
            return err_errno(err, "make folder %s", sub);
    }
    return OK;
}

enum errc model_store_open(const char *dir, struct model_store **ret_store, struct error *err) {
    AUTO(model_store) s = mem_alloc(sizeof(*s));
    int lock = -1;
    if (make_folders(dir, err))
        return err->code;
    s->dir = realpath(dir, NULL);
    if (!s->dir)
        return err_errno(err, "find folder %s", dir);
    if (model_store_lock(s, &lock, err))
        return err->code;
    model_store_sweep(s);
    close(lock);
    *ret_store = steal(s);
    return OK;
}

void model_store_close(struct model_store *s) {
    if (!s)
        return;
    free(s->dir);
    free(s);
}

const char *model_store_dir(const struct model_store *s) {
    return s->dir;
}
