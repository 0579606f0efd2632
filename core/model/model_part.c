/* Parts of files.
 *
 * KEY.map begins with a line that says what the part is a part of, "BYTES CHUNK ETAG", and has one
 * byte a chunk behind MODEL_PART_HEAD_BYTES. A chunk is marked when its bytes are on the disk, so a
 * mark is true after a kill and after a power cut. Bytes of a chunk that is not complete are known
 * to this process only: a cut connection costs nothing, a killed process less than a chunk. */
#include "core/model/model_part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/model/model_source.h"

static size_t count_chunks(const struct model_part *p) {
    return (size_t)((p->bytes + p->chunk_bytes - 1) / p->chunk_bytes);
}

static uint64_t chunk_end(const struct model_part *p, size_t i) {
    uint64_t end = (i + 1) * p->chunk_bytes;
    return end < p->bytes ? end : p->bytes;
}

static enum errc write_failed(struct error *err) {
    if (errno == ENOSPC || errno == EDQUOT)
        return err_set(err, ERR_EXHAUSTED, "no space left on the disk of the model store");
    return err_errno(err, "write into the model store");
}

static bool write_at(int fd, const void *data, size_t len, uint64_t at) {
    const char *p = data;
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)at);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            p += n;
            at += (uint64_t)n;
            len -= (size_t)n;
        }
    }
    return true;
}

static void make_chunks(struct model_part *p) {
    free(p->chunks);
    free(p->had);
    p->num_chunks = count_chunks(p);
    p->num_done = 0;
    p->chunks = mem_alloc(p->num_chunks + 1);
    p->had = mem_array(p->num_chunks + 1, sizeof(p->had[0]));
    memset(p->chunks, MODEL_CHUNK_MISSING, p->num_chunks);
}

/* A file of many terabytes gets larger chunks, not more of them. */
static void fit_chunks(struct model_part *p) {
    while (count_chunks(p) > MODEL_PART_CHUNKS_MAX)
        p->chunk_bytes *= 2;
}

static void head_text(const struct model_part *p, char out[MODEL_PART_HEAD_BYTES]) {
    memset(out, 0, MODEL_PART_HEAD_BYTES);
    snprintf(out, MODEL_PART_HEAD_BYTES, "%" PRIu64 " %" PRIu64 " %.*s\n", p->bytes, p->chunk_bytes,
             MODEL_PART_ETAG_BYTES_MAX, p->etag ? p->etag : "");
}

static enum errc write_map(struct model_part *p, struct error *err) {
    char head[MODEL_PART_HEAD_BYTES];
    head_text(p, head);
    if (ftruncate(p->map_fd, 0) || !write_at(p->map_fd, head, sizeof(head), 0) ||
        !write_at(p->map_fd, p->chunks, p->num_chunks, sizeof(head)))
        return write_failed(err);
    return OK;
}

/* What an earlier process has marked. What is known by now decides what it can be. */
static void read_map(struct model_part *p, uint64_t bytes, const char *etag) {
    char head[MODEL_PART_HEAD_BYTES + 1] = "";
    struct model_part was = {0};
    int etag_at = 0;
    struct stat st;
    if (pread(p->map_fd, head, MODEL_PART_HEAD_BYTES, 0) != MODEL_PART_HEAD_BYTES ||
        sscanf(head, "%" SCNu64 " %" SCNu64 " %n", &was.bytes, &was.chunk_bytes, &etag_at) != 2 ||
        !etag_at || was.bytes == MODEL_BYTES_UNKNOWN || !was.chunk_bytes ||
        was.chunk_bytes > MODEL_BYTES_UNKNOWN / 4 || count_chunks(&was) > MODEL_PART_CHUNKS_MAX)
        return;
    head[strcspn(head, "\n")] = '\0';
    const char *was_etag = head + etag_at;
    if ((bytes != MODEL_BYTES_UNKNOWN && bytes != was.bytes) ||
        (etag && strcmp(etag, was_etag) != 0) || fstat(p->fd, &st) ||
        (uint64_t)st.st_size > was.bytes)
        return;
    p->bytes = was.bytes;
    p->chunk_bytes = was.chunk_bytes;
    p->etag = *was_etag ? mem_strdup(was_etag) : NULL;
    make_chunks(p);
    if (pread(p->map_fd, p->chunks, p->num_chunks, MODEL_PART_HEAD_BYTES) != (ssize_t)p->num_chunks)
        memset(p->chunks, MODEL_CHUNK_MISSING, p->num_chunks);
    for (size_t i = 0; i < p->num_chunks; i++) {
        if (p->chunks[i] != MODEL_CHUNK_DONE || chunk_end(p, i) > (uint64_t)st.st_size)
            p->chunks[i] = MODEL_CHUNK_MISSING;
        p->num_done += p->chunks[i] == MODEL_CHUNK_DONE;
    }
}

enum errc model_part_open(const struct model_incoming *in, const char *key, uint64_t bytes,
                          const char *etag, uint64_t chunk_bytes, struct model_part *p,
                          struct error *err) {
    *p = (struct model_part){
        .fd = -1, .map_fd = -1, .bytes = MODEL_BYTES_UNKNOWN, .chunk_bytes = chunk_bytes};
    if (model_incoming_open_file(in, key, "part", &p->fd, err) ||
        model_incoming_open_file(in, key, "map", &p->map_fd, err))
        return err->code;
    read_map(p, bytes, etag);
    if (p->chunks || bytes == MODEL_BYTES_UNKNOWN)
        return OK;
    return model_part_set_size(p, bytes, etag, err);
}

void model_part_close(struct model_part *p) {
    if (p->fd >= 0)
        close(p->fd);
    if (p->map_fd >= 0)
        close(p->map_fd);
    free(p->etag);
    free(p->chunks);
    free(p->had);
    *p = (struct model_part){.fd = -1, .map_fd = -1};
}

enum errc model_part_set_size(struct model_part *p, uint64_t bytes, const char *etag,
                              struct error *err) {
    if (bytes > INT64_MAX)
        return err_set(err, ERR_INVALID, "a file of %" PRIu64 " bytes cannot be", bytes);
    p->bytes = bytes;
    free(p->etag);
    /* An etag that does not fit is none: resuming then relies on size and digest. */
    p->etag = etag && strlen(etag) < MODEL_PART_ETAG_BYTES_MAX && !strchr(etag, '\n')
                  ? mem_strdup(etag)
                  : NULL;
    fit_chunks(p);
    return model_part_reset(p, err);
}

enum errc model_part_reset(struct model_part *p, struct error *err) {
    if (p->bytes == MODEL_BYTES_UNKNOWN) {
        if (ftruncate(p->fd, 0))
            return write_failed(err);
        return OK;
    }
    make_chunks(p);
    if (ftruncate(p->fd, 0))
        return write_failed(err);
    return write_map(p, err);
}

bool model_part_take(struct model_part *p, size_t chunks_max, uint64_t *ret_first,
                     uint64_t *ret_end) {
    size_t first = 0, num = 0;
    while (first < p->num_chunks && p->chunks[first] != MODEL_CHUNK_MISSING)
        first++;
    /* Only the first one may have a beginning: what is asked for is one range. */
    while (num < chunks_max && first + num < p->num_chunks &&
           p->chunks[first + num] == MODEL_CHUNK_MISSING && (!num || !p->had[first + num]))
        p->chunks[first + num++] = MODEL_CHUNK_ASKED;
    if (!num)
        return false;
    *ret_first = first * p->chunk_bytes + p->had[first];
    *ret_end = chunk_end(p, first + num - 1);
    return true;
}

void model_part_give_back(struct model_part *p, uint64_t at, uint64_t end) {
    if (!p->chunks)
        return;
    for (size_t i = (size_t)(at / p->chunk_bytes); i < p->num_chunks && i * p->chunk_bytes < end;
         i++) {
        if (p->chunks[i] == MODEL_CHUNK_ASKED)
            p->chunks[i] = MODEL_CHUNK_MISSING;
    }
}

static enum errc mark_done(struct model_part *p, size_t i, struct error *err) {
    static const char done = MODEL_CHUNK_DONE;
    if (fdatasync(p->fd))
        return write_failed(err);
    p->num_done += p->chunks[i] != MODEL_CHUNK_DONE;
    p->chunks[i] = MODEL_CHUNK_DONE;
    p->had[i] = 0;
    return write_at(p->map_fd, &done, 1, MODEL_PART_HEAD_BYTES + i) ? OK : write_failed(err);
}

enum errc model_part_write(struct model_part *p, uint64_t at, const void *data, size_t len,
                           struct error *err) {
    if (!write_at(p->fd, data, len, at))
        return write_failed(err);
    while (p->chunks && len) {
        size_t i = (size_t)(at / p->chunk_bytes);
        uint64_t end = chunk_end(p, i);
        size_t n = len < end - at ? len : (size_t)(end - at);
        at += n;
        len -= n;
        p->had[i] = (uint32_t)(at - i * p->chunk_bytes);
        if (at == end && mark_done(p, i, err))
            return err->code;
    }
    return OK;
}

bool model_part_complete(const struct model_part *p) {
    return p->chunks && p->num_done == p->num_chunks;
}

uint64_t model_part_bytes_done(const struct model_part *p) {
    uint64_t sum = 0;
    for (size_t i = 0; i < p->num_chunks; i++)
        sum += p->chunks[i] == MODEL_CHUNK_DONE ? chunk_end(p, i) - i * p->chunk_bytes : p->had[i];
    return sum;
}
