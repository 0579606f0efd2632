/* Mapping model files. MAP_SHARED of a read-only descriptor: no copy, no swap, and a second replica
 * of the same model finds the pages already in memory. */
#include "engine/file_map.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static struct file_identity identity_of(const struct stat *st) {
    return (struct file_identity){
        .device = st->st_dev,
        .inode = st->st_ino,
        .bytes = (uint64_t)st->st_size,
        .modified_ns = st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .changed_ns = st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
    };
}

static enum errc map_whole(int fd, const char *path, size_t len, struct file_map *ret_map,
                           struct error *err) {
    void *data = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(err, "%s: map %zu bytes", path, len);
    *ret_map = (struct file_map){.data = data, .len = len};
    return OK;
}

/* Memory as long as the file, of which only the head can be written: the rest costs no memory, also
 * where the kernel grants no more than there is. */
static enum errc copy_head(int fd, const char *path, size_t len, size_t head_bytes,
                           struct file_map *ret_map, struct error *err) {
    size_t head = head_bytes < len ? head_bytes : len, done = 0;
    uint8_t *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return err_errno(err, "%s: map %zu bytes", path, len);
    *ret_map = (struct file_map){.data = data, .len = len};
    enum errc rc =
        mprotect(data, head, PROT_READ | PROT_WRITE) ? err_errno(err, "%s: read", path) : OK;
    while (!rc && done < head) {
        ssize_t n = pread(fd, data + done, head - done, (off_t)done);
        if (n == 0)
            break; /* it is shorter by now */
        if (n < 0 && errno != EINTR)
            rc = err_errno(err, "%s: read", path);
        done += n > 0 ? (size_t)n : 0;
    }
    if (rc)
        file_map_close(ret_map);
    return rc;
}

/* head_bytes 0: all of it, by mapping. */
static enum errc open_file(const char *path, size_t head_bytes, struct file_map *ret_map,
                           struct error *err) {
    /* O_NONBLOCK: a FIFO in the models folder must not block the open. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    enum errc rc;
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(err, ERR_NOT_FOUND, "%s: no such file", path);
    if (fd < 0)
        return err_errno(err, "%s: open", path);
    if (fstat(fd, &st))
        rc = err_errno(err, "%s: stat", path);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_MALFORMED, "%s: not a regular file", path);
    else if (!st.st_size)
        rc = err_set(err, ERR_MALFORMED, "%s: the file is empty", path);
    else if (head_bytes)
        rc = copy_head(fd, path, (size_t)st.st_size, head_bytes, ret_map, err);
    else
        rc = map_whole(fd, path, (size_t)st.st_size, ret_map, err);
    if (!rc) {
        ret_map->path = mem_strdup(path);
        ret_map->identity = identity_of(&st);
    }
    close(fd);
    return rc;
}

enum errc file_map_open(const char *path, struct file_map *ret_map, struct error *err) {
    return open_file(path, 0, ret_map, err);
}

enum errc file_map_open_head(const char *path, size_t head_bytes, struct file_map *ret_map,
                             struct error *err) {
    ASSERT(head_bytes);
    return open_file(path, head_bytes, ret_map, err);
}

void file_map_close(struct file_map *map) {
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->len);
    free(map->path);
    *map = (struct file_map){0};
}

enum errc file_identity_of(const char *path, struct file_identity *ret_id, struct error *err) {
    struct stat st;
    if (stat(path, &st))
        return err_errno(err, "%s: stat", path);
    *ret_id = identity_of(&st);
    return OK;
}

bool file_map_is_settled(const struct file_map *map, int64_t wall_ms) {
    struct file_identity now = {0};
    struct error err = ERROR_INIT;
    return !file_identity_of(map->path, &now, &err) && !memcmp(&now, &map->identity, sizeof(now)) &&
           wall_ms - now.modified_ns / 1000000 >= FILE_SETTLED_MS;
}
