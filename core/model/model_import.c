/* Import: the files are listed, room is made sure of, and each is read once, hashed and written at
 * the same time. What is in the store of it already is not written again. */
#include "core/model/model_import.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/model/model_ref.h"

enum { COPY_BYTES = 1 << 20 };

struct import {
    const struct model_store *store;
    const char *base; /* the folder, or the file's */
    struct model_manifest *m;
    size_t cap;
};

static enum errc add_file(struct import *im, const char *path, uint64_t bytes, struct error *err) {
    struct model_manifest *m = im->m;
    if (!model_ref_path_ok(path))
        return err_set(err, ERR_INVALID, "%s/%.256s: not a name that a model's file may have",
                       im->base, path);
    if (m->num_files == MODEL_FILES_MAX)
        return err_set(err, ERR_INVALID, "%s: more than %d files", im->base, MODEL_FILES_MAX);
    if (m->num_files == im->cap)
        m->files =
            mem_realloc(m->files, (im->cap = im->cap ? im->cap * 2 : 16) * sizeof(*m->files));
    m->files[m->num_files++] = (struct model_file){.path = mem_strdup(path), .bytes = bytes};
    m->bytes += bytes;
    return OK;
}

/* below: path within the base, "" for itself. */
static enum errc list_folder(struct import *im, const char *below, int depth, struct error *err) {
    AUTO_FREE char *dir = mem_printf("%s%s%s", im->base, *below ? "/" : "", below);
    enum errc rc = OK;
    if (depth > MODEL_IMPORT_DEPTH_MAX)
        return err_set(err, ERR_INVALID, "%s: more than %d folders deep", dir,
                       MODEL_IMPORT_DEPTH_MAX);
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(err, "read folder %s", dir);
    for (struct dirent *e; !rc && (e = readdir(d));) {
        struct stat st, link;
        AUTO_FREE char *path = mem_printf("%s%s%s", below, *below ? "/" : "", e->d_name);
        if (e->d_name[0] == '.')
            continue;
        if (fstatat(dirfd(d), e->d_name, &link, AT_SYMLINK_NOFOLLOW) ||
            fstatat(dirfd(d), e->d_name, &st, 0))
            rc = err_errno(err, "look at %s/%s", dir, e->d_name);
        else if (S_ISDIR(link.st_mode))
            rc = list_folder(im, path, depth + 1, err);
        else if (S_ISREG(st.st_mode))
            rc = add_file(im, path, (uint64_t)st.st_size, err);
    }
    closedir(d);
    return rc;
}

static int by_path(const void *a, const void *b) {
    const struct model_file *x = a, *y = b;
    return strcmp(x->path, y->path);
}

static enum errc list(struct import *im, const char *path, char **ret_base, struct error *err) {
    struct stat st;
    if (stat(path, &st))
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "%s: there is no such file", path)
                               : err_errno(err, "look at %s", path);
    if (S_ISREG(st.st_mode)) {
        const char *slash = strrchr(path, '/');
        *ret_base = slash ? mem_strndup(path, (size_t)(slash - path)) : mem_strdup(".");
        im->base = *ret_base;
        return add_file(im, slash ? slash + 1 : path, (uint64_t)st.st_size, err);
    }
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_INVALID, "%s: neither a file nor a folder", path);
    *ret_base = mem_strdup(path);
    im->base = *ret_base;
    if (list_folder(im, "", 0, err))
        return err->code;
    if (!im->m->num_files)
        return err_set(err, ERR_INVALID, "%s: no files in this folder", path);
    qsort(im->m->files, im->m->num_files, sizeof(im->m->files[0]), by_path);
    return OK;
}

static bool write_all(int fd, const char *data, size_t len) {
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static enum errc copy(int from, int to, const char *path, struct model_file *file,
                      struct error *err) {
    AUTO_FREE char *data = mem_alloc(COPY_BYTES);
    AUTO(digest) d = digest_create(DIGEST_SHA256);
    uint64_t bytes = 0;
    ssize_t n;
    while ((n = read(from, data, COPY_BYTES)) > 0) {
        digest_update(d, data, (size_t)n);
        bytes += (uint64_t)n;
        if (!write_all(to, data, (size_t)n))
            return errno == ENOSPC
                       ? err_set(err, ERR_EXHAUSTED, "copy %s: no space left on the disk", path)
                       : err_errno(err, "copy %s", path);
    }
    if (n < 0)
        return err_errno(err, "read %s", path);
    digest_hex(d, file->sha256);
    file->bytes = bytes;
    return OK;
}

static enum errc import_file(const struct import *im, const struct model_incoming *in,
                             struct model_file *file, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/%s", im->base, file->path);
    char key[MODEL_ID_BYTES];
    int to = -1, from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return err_errno(err, "open %s", path);
    model_incoming_key(file->path, "import", key);
    model_incoming_drop(in, key);
    enum errc rc = model_incoming_open_file(in, key, "part", &to, err);
    if (!rc)
        rc = copy(from, to, path, file, err);
    close(from);
    if (to >= 0)
        close(to);
    return rc ? rc : model_incoming_finish(in, key, file->sha256, err);
}

enum errc model_import(const struct model_store *s, const char *reference, const char *path,
                       uint64_t bytes_max, struct model_manifest **ret_m, struct error *err) {
    AUTO(model_manifest) m = mem_alloc(sizeof(*m));
    AUTO(model_incoming) in = NULL;
    AUTO_FREE char *base = NULL;
    struct import im = {.store = s, .m = m};
    m->reference = mem_strdup(reference);
    m->added_ms = m->used_ms = clock_wall_ms();
    if (list(&im, path, &base, err))
        return err->code;
    struct model_room room = {.bytes = m->bytes, .bytes_max = bytes_max};
    if (model_store_make_room(s, &room, err) || model_incoming_open(s, reference, &in, err))
        return err->code;
    for (size_t i = 0; i < m->num_files; i++) {
        if (import_file(&im, in, &m->files[i], err)) {
            model_incoming_discard(in);
            return err->code;
        }
    }
    if (model_incoming_commit(in, m, err))
        return err->code;
    return model_store_find(s, reference, ret_m, err);
}
