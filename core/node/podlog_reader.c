/* Reading pod logs: from the oldest rotated file to the current one, line by line, then following.
 *
 * A reader holds the file it is in open. At its end it looks whether that file is still the current
 * one; if the writer has rotated meanwhile, the file's inode is found in the chain and the next
 * younger one is opened, so a reader that is slower than the rotation still sees every line that is
 * kept. Records are "TIME STREAM F|P TEXT\n": P pieces are joined, the head is cut off or (with
 * timestamps) shortened to the time. */
#include "core/node/podlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/node/podlog_file.h"

enum { READ_BYTES = 16 * 1024, FILES_MAX = 100 };

struct podlog_reader {
    struct podlog *podlog;
    struct podlog_reader_link link;
    void (*on_more)(void *user);
    void *user;
    struct podlog_read_options opt;
    char *path;
    int file;           /* -1: none open any more */
    int64_t skip_lines; /* full lines still to be skipped (tail) */
    bool inside_line;   /* the last record was a P piece */
    int64_t bytes_left; /* of limit_bytes; INT64_MAX: none */
    struct buf raw;     /* bytes read, not yet whole records */
};

struct podlog_reader_link *podlog_reader_link(struct podlog_reader *r) {
    return &r->link;
}

void podlog_reader_notify(struct podlog_reader *r) {
    if (r->on_more)
        r->on_more(r->user);
}

static char *chain_path(const struct podlog_reader *r, int index) {
    return index ? mem_printf("%s.%d", r->path, index) : mem_strdup(r->path);
}

static int open_chain(const struct podlog_reader *r, int index) {
    AUTO_FREE char *path = chain_path(r, index);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int oldest_index(const struct podlog_reader *r) {
    int index = -1;
    for (int i = 0; i < FILES_MAX; i++) {
        AUTO_FREE char *path = chain_path(r, i);
        if (access(path, F_OK))
            break;
        index = i;
    }
    return index;
}

/* Full lines ('F' records) in one file. */
static int64_t count_lines(int file) {
    struct stat st;
    if (fstat(file, &st) || !st.st_size)
        return 0;
    char *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED)
        return 0;
    int64_t n = 0;
    const char *end = data + st.st_size;
    for (const char *p = data; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        const char *stream = memchr(p, ' ', (size_t)(stop - p));
        const char *tag = stream ? memchr(stream + 1, ' ', (size_t)(stop - stream - 1)) : NULL;
        n += tag && tag + 1 < stop && tag[1] == 'F';
        p = stop + 1;
    }
    munmap(data, (size_t)st.st_size);
    return n;
}

static int64_t lines_in_all_files(const struct podlog_reader *r) {
    int64_t n = 0;
    for (int i = oldest_index(r); i >= 0; i--) {
        int file = open_chain(r, i);
        if (file < 0)
            continue;
        n += count_lines(file);
        close(file);
    }
    return n;
}

enum errc podlog_reader_open(struct podlog *p, const struct podlog_source *src,
                             const struct podlog_read_options *opt, struct podlog_reader **ret_r,
                             struct error *err) {
    struct podlog_reader *r = mem_alloc(sizeof(*r));
    r->podlog = p;
    r->opt = *opt;
    r->path = podlog_file_path(podlog_dir(p), src);
    r->bytes_left = opt->limit_bytes < 0 ? INT64_MAX : opt->limit_bytes;
    if (opt->follow)
        podlog_link_reader(p, r->path, r); /* before the first read, or lines could be missed */
    int oldest = oldest_index(r);
    r->file = oldest < 0 ? -1 : open_chain(r, oldest);
    if (r->file < 0) {
        podlog_reader_close(r);
        return err_set(err, ERR_NOT_FOUND,
                       "container \"%s\" of pod \"%s\" has no log of its run number %u",
                       src->container, src->pod, src->restart);
    }
    if (opt->tail_lines >= 0) {
        int64_t all = lines_in_all_files(r);
        r->skip_lines = all > opt->tail_lines ? all - opt->tail_lines : 0;
    }
    *ret_r = r;
    return OK;
}

/* Opens the file after the one that is at its end. False: that one is the current one. */
static bool next_file(struct podlog_reader *r) {
    struct stat mine, st;
    if (fstat(r->file, &mine))
        return false;
    int found = -1, oldest = -1;
    for (int i = 0; i < FILES_MAX; i++) {
        AUTO_FREE char *path = chain_path(r, i);
        if (stat(path, &st))
            break;
        oldest = i;
        if (st.st_ino == mine.st_ino && st.st_dev == mine.st_dev)
            found = i;
    }
    if (found == 0 || oldest < 0)
        return false;
    int file = open_chain(r, found > 0 ? found - 1 : oldest);
    if (file < 0)
        return false;
    close(r->file);
    r->file = file;
    return true;
}

static bool before_since(const struct podlog_reader *r, const char *time, size_t len) {
    char text[64];
    if (!r->opt.since_wall_ms || len >= sizeof(text))
        return false;
    memcpy(text, time, len);
    text[len] = '\0';
    int64_t at = clock_parse_rfc3339(text);
    return at >= 0 && at < r->opt.since_wall_ms;
}

static void append_bounded(struct podlog_reader *r, struct buf *out, const char *data, size_t len) {
    size_t take = (int64_t)len > r->bytes_left ? (size_t)r->bytes_left : len;
    buf_append(out, data, take);
    if (r->bytes_left != INT64_MAX)
        r->bytes_left -= (int64_t)take;
}

/* One record without its newline. */
static void take_record(struct podlog_reader *r, const char *rec, size_t len, struct buf *out) {
    const char *end = rec + len;
    const char *stream = memchr(rec, ' ', len);
    const char *tag = stream ? memchr(stream + 1, ' ', (size_t)(end - stream - 1)) : NULL;
    if (!tag || end - tag < 3)
        return; /* torn by a full disk */
    bool whole = tag[1] == 'F', starts = !r->inside_line;
    r->inside_line = !whole;
    if (r->skip_lines > 0) {
        r->skip_lines -= whole;
        return;
    }
    if (before_since(r, rec, (size_t)(stream - rec)))
        return;
    if (r->opt.timestamps && starts)
        append_bounded(r, out, rec, (size_t)(stream - rec) + 1);
    append_bounded(r, out, tag + 3, (size_t)(end - tag) - 3);
    if (whole)
        append_bounded(r, out, "\n", 1);
}

static void take_records(struct podlog_reader *r, struct buf *out) {
    size_t at = 0;
    while (at < r->raw.len) {
        const char *newline = memchr(r->raw.data + at, '\n', r->raw.len - at);
        if (!newline)
            break;
        size_t len = (size_t)(newline - (r->raw.data + at));
        take_record(r, r->raw.data + at, len, out);
        at += len + 1;
    }
    buf_consume(&r->raw, at);
}

bool podlog_reader_next(struct podlog_reader *r, size_t bytes_max, struct buf *out) {
    size_t start = out->len;
    while (out->len - start < bytes_max && r->bytes_left > 0) {
        bool ended = !r->link.source || podlog_source_ended(r->link.source); /* before reading */
        buf_reserve(&r->raw, READ_BYTES);
        ssize_t n = read(r->file, r->raw.data + r->raw.len, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n > 0) {
            r->raw.len += (size_t)n;
            r->raw.data[r->raw.len] = '\0';
            take_records(r, out);
        } else if (!next_file(r)) {
            return r->opt.follow && !ended;
        }
    }
    return r->bytes_left > 0;
}

void podlog_reader_on_more(struct podlog_reader *r, void (*fn)(void *user), void *user) {
    podlog_lock(r->podlog);
    r->on_more = fn;
    r->user = user;
    podlog_unlock(r->podlog);
}

void podlog_reader_close(struct podlog_reader *r) {
    if (!r)
        return;
    podlog_unlink_reader(r->podlog, r);
    if (r->file >= 0)
        close(r->file);
    buf_deinit(&r->raw);
    free(r->path);
    free(r);
}

void podlog_tail(struct podlog *p, const struct podlog_source *src, size_t bytes_max,
                 struct buf *out) {
    struct podlog_read_options opt = {.tail_lines = 50, .limit_bytes = -1};
    struct podlog_reader *r = NULL;
    struct error err = ERROR_INIT;
    if (podlog_reader_open(p, src, &opt, &r, &err) || !r)
        return;
    AUTO_BUF text = BUF_INIT;
    while (podlog_reader_next(r, READ_BYTES, &text) && text.len < bytes_max * 64)
        ;
    podlog_reader_close(r);
    size_t skip = text.len > bytes_max ? text.len - bytes_max : 0;
    while (skip && skip < text.len && (text.data[skip] & 0xC0) == 0x80)
        skip++; /* not inside a character */
    buf_append(out, text.data ? text.data + skip : "", text.len - skip);
}
