/* Models on their way into the store.
 *
 * The names in incoming/ID say everything: KEY.part is being filled, KEY.map says which chunks of
 * it are on the disk, KEY.SHA256 is a file that is complete, and also a name of its blob, which so
 * is not swept. A process that goes on where another was killed reads them and needs no journal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/model/model_ref.h"
#include "core/model/model_store_files.h"

struct model_incoming {
    const struct model_store *store;
    char *reference, *dir;
    int lock;
};

enum errc model_incoming_open(const struct model_store *s, const char *reference,
                              struct model_incoming **ret_in, struct error *err) {
    char id[MODEL_ID_BYTES];
    AUTO(model_incoming) in = mem_alloc(sizeof(*in));
    int names = -1;
    in->lock = -1;
    in->store = s;
    in->reference = mem_strdup(reference);
    model_store_id(reference, id);
    in->dir = model_store_path(s, "incoming", id);
    AUTO_FREE char *lock_path = mem_printf("%s/lock", in->dir);
    if (model_store_lock(s, &names, err)) /* so that a sweep does not take the folder */
        return err->code;
    bool made = !mkdir(in->dir, 0755) || errno == EEXIST;
    enum errc rc = made ? OK : err_errno(err, "make folder %s", in->dir);
    if (!rc) {
        in->lock = model_store_flock(lock_path, LOCK_EX | LOCK_NB);
        if (in->lock < 0)
            rc = errno == EWOULDBLOCK
                     ? err_set(err, ERR_UNAVAILABLE,
                               "model \"%.512s\" is being added by another process", reference)
                     : err_errno(err, "lock %s", lock_path);
    }
    if (!rc)
        utimensat(AT_FDCWD, in->dir, NULL, 0);
    close(names);
    if (!rc)
        *ret_in = steal(in);
    return rc;
}

void model_incoming_close(struct model_incoming *in) {
    if (!in)
        return;
    if (in->lock >= 0)
        close(in->lock);
    free(in->reference);
    free(in->dir);
    free(in);
}

void model_incoming_discard(struct model_incoming *in) {
    model_store_remove_tree(in->dir); /* the lock is held by the descriptor */
}

void model_incoming_key(const char *path, const char *expected, char ret_key[MODEL_ID_BYTES]) {
    AUTO_FREE char *text = mem_printf("%s\n%s", path, expected);
    model_store_id(text, ret_key);
}

/* KEY.part and KEY.map lie beside it. */
bool model_incoming_find(const struct model_incoming *in, const char *key,
                         char ret_sha256[DIGEST_HEX_BYTES], uint64_t *ret_bytes) {
    size_t len = strlen(key);
    bool found = false;
    DIR *d = opendir(in->dir);
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        if (strncmp(e->d_name, key, len) != 0 || e->d_name[len] != '.' ||
            !digest_is_sha256(e->d_name + len + 1))
            continue;
        memcpy(ret_sha256, e->d_name + len + 1, DIGEST_HEX_BYTES);
        found = model_store_has_blob(in->store, ret_sha256, ret_bytes);
    }
    if (d)
        closedir(d);
    return found;
}

enum errc model_incoming_open_file(const struct model_incoming *in, const char *key,
                                   const char *suffix, int *ret_fd, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/%s.%s", in->dir, key, suffix);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return err_errno(err, "open %s", path);
    *ret_fd = fd;
    return OK;
}

void model_incoming_drop(const struct model_incoming *in, const char *key) {
    AUTO_FREE char *part = mem_printf("%s/%s.part", in->dir, key);
    AUTO_FREE char *map = mem_printf("%s/%s.map", in->dir, key);
    unlink(part);
    unlink(map);
}

static enum errc sync_part(const char *path, struct error *err) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool ok = fd >= 0 && !fsync(fd) && !fchmod(fd, 0444);
    enum errc rc = ok ? OK : err_errno(err, "sync %s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The blob gets its second name first, so that no sweep finds it with one. */
enum errc model_incoming_finish(const struct model_incoming *in, const char *key,
                                const char *sha256, struct error *err) {
    AUTO_FREE char *part = mem_printf("%s/%s.part", in->dir, key);
    AUTO_FREE char *done = mem_printf("%s/%s.%s", in->dir, key, sha256);
    AUTO_FREE char *blob = model_store_path(in->store, "blobs", sha256);
    AUTO_FREE char *blobs = model_store_path(in->store, "blobs", NULL);
    int names = -1;
    if (sync_part(part, err) || model_store_lock(in->store, &names, err))
        return err->code;
    bool shared = !access(blob, F_OK); /* another model has the same file */
    bool ok =
        shared ? !link(blob, done) || errno == EEXIST : !rename(part, done) && !link(done, blob);
    enum errc rc = ok ? OK : err_errno(err, "keep %s", blob);
    if (!rc)
        rc = model_store_sync_dir(blobs, err);
    if (!rc)
        rc = model_store_sync_dir(in->dir, err);
    close(names);
    if (!rc)
        model_incoming_drop(in, key);
    return rc;
}

bool model_incoming_adopt(const struct model_incoming *in, const char *key, const char *sha256,
                          uint64_t *ret_bytes) {
    AUTO_FREE char *done = mem_printf("%s/%s.%s", in->dir, key, sha256);
    AUTO_FREE char *blob = model_store_path(in->store, "blobs", sha256);
    struct error err = ERROR_INIT;
    int names = -1;
    if (model_store_lock(in->store, &names, &err))
        return false;
    bool there = model_store_has_blob(in->store, sha256, ret_bytes) &&
                 (!link(blob, done) || errno == EEXIST);
    close(names);
    return there;
}

/* Makes the folders above base/path. */
static enum errc make_parents(const char *base, const char *path, struct error *err) {
    AUTO_FREE char *full = mem_printf("%s/%s", base, path);
    for (char *p = full + strlen(base) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (mkdir(full, 0755) && errno != EEXIST)
            return err_errno(err, "make folder %s", full);
        *p = '/';
    }
    return OK;
}

/* Bottom up, the folder itself last. */
static enum errc sync_parents(const char *base, const char *path, struct error *err) {
    AUTO_FREE char *full = mem_printf("%s/%s", base, path);
    for (char *slash; (slash = strrchr(full, '/')) && slash > full + strlen(base);) {
        *slash = '\0';
        if (model_store_sync_dir(full, err))
            return err->code;
    }
    return model_store_sync_dir(base, err);
}

static enum errc link_files(const struct model_store *s, const struct model_manifest *m,
                            const char *dir, struct error *err) {
    for (size_t i = 0; i < m->num_files; i++) {
        AUTO_FREE char *blob = model_store_path(s, "blobs", m->files[i].sha256);
        AUTO_FREE char *name = mem_printf("%s/%s", dir, m->files[i].path);
        if (!model_ref_path_ok(m->files[i].path))
            return err_set(err, ERR_INVALID, "file \"%.256s\" of model \"%.256s\" is no name",
                           m->files[i].path, m->reference);
        if (make_parents(dir, m->files[i].path, err))
            return err->code;
        if (link(blob, name))
            return errno == EEXIST || errno == ENOTDIR
                       ? err_set(err, ERR_INVALID,
                                 "model \"%.256s\" has two files with the name \"%.256s\"",
                                 m->reference, m->files[i].path)
                       : err_errno(err, "link %s", name);
    }
    for (size_t i = 0; i < m->num_files; i++) {
        if (sync_parents(dir, m->files[i].path, err))
            return err->code;
    }
    return OK;
}

/* Under the lock. */
static enum errc make_view(const struct model_store *s, const struct model_manifest *m,
                           struct error *err) {
    char view[MODEL_ID_BYTES];
    model_store_view(m, view);
    AUTO_FREE char *views = model_store_path(s, "views", NULL);
    AUTO_FREE char *dir = model_store_path(s, "views", view);
    AUTO_FREE char *fresh = mem_printf("%s.new", dir);
    if (!access(dir, F_OK))
        return OK; /* another reference stands for the same files */
    model_store_remove_tree(fresh);
    if (mkdir(fresh, 0755))
        return err_errno(err, "make folder %s", fresh);
    enum errc rc = link_files(s, m, fresh, err);
    if (!rc && rename(fresh, dir))
        rc = err_errno(err, "rename %s", fresh);
    if (!rc)
        rc = model_store_sync_dir(views, err);
    if (rc)
        model_store_remove_tree(fresh);
    return rc;
}

/* Under the lock. A reference that is in use stays what it is. */
static enum errc may_replace(const struct model_store *s, const struct model_manifest *m,
                             struct error *err) {
    AUTO(model_manifest) was = NULL;
    struct error none = ERROR_INIT;
    char view[MODEL_ID_BYTES];
    model_store_view(m, view);
    if (model_store_find(s, m->reference, &was, &none) ||
        !strcmp(strrchr(was->dir, '/') + 1, view) || !model_store_in_use(s, m->reference))
        return OK;
    return err_set(err, ERR_CONFLICT,
                   "model \"%.512s\" has other content now, and the daemon uses the one that is "
                   "there: delete what refers to it first",
                   m->reference);
}

enum errc model_incoming_commit(struct model_incoming *in, const struct model_manifest *m,
                                struct error *err) {
    int names = -1;
    ASSERT(!strcmp(in->reference, m->reference));
    if (!m->num_files || m->num_files > MODEL_FILES_MAX)
        return err_set(err, ERR_INVALID, "model \"%.512s\" has %zu files, expected 1 to %d",
                       m->reference, m->num_files, MODEL_FILES_MAX);
    if (model_store_lock(in->store, &names, err))
        return err->code;
    enum errc rc = may_replace(in->store, m, err);
    if (!rc)
        rc = make_view(in->store, m, err);
    if (!rc)
        rc = model_store_write_manifest(in->store, m, err);
    if (!rc) {
        model_store_remove_tree(in->dir);
        model_store_sweep(in->store);
    }
    close(names);
    return rc;
}
