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

static enum errc map_fd(int fd, const char *path, struct file_map *ret_map, struct error *err) {
    struct stat st;
    if (fstat(fd, &st))
        return err_errno(err, "%s: stat", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_MALFORMED, "%s: not a regular file", path);
    if (!st.st_size)
        return err_set(err, ERR_MALFORMED, "%s: the file is empty", path);
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return err_errno(err, "%s: map %lld bytes", path, (long long)st.st_size);
    *ret_map = (struct file_map){.data = data,
                                 .len = (size_t)st.st_size,
                                 .path = mem_strdup(path),
                                 .identity = identity_of(&st)};
    return OK;
}

enum errc file_map_open(const char *path, struct file_map *ret_map, struct error *err) {
    /* O_NONBLOCK: a FIFO in the models folder must not block the open. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return err_set(err, ERR_NOT_FOUND, "%s: no such file", path);
        return err_errno(err, "%s: open", path);
    }
    enum errc rc = map_fd(fd, path, ret_map, err);
    close(fd);
    return rc;
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
    struct file_identity now;
    struct error err = ERROR_INIT;
    return !file_identity_of(map->path, &now, &err) && !memcmp(&now, &map->identity, sizeof(now)) &&
           wall_ms - now.modified_ns / 1000000 >= FILE_SETTLED_MS;
}
