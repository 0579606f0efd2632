/* Downloads.
 *
 *              size known                             all chunks there        digest right
 *     waiting ───────────▶ ranges, several at a time ─────────────────▶ verifying ──▶ done
 *        │  ▲                   │ the server has no ranges                  │ wrong: once more
 *        │  └── cut: later ─────┤                                           ▼
 *        └── size not known ──▶ one request from the start on            waiting
 *
 * One loop turns libcurl, hashes what is complete in slices between, and starts what is due. A
 * transfer that is cut gives back the chunks that did not come; how often that may happen in a row
 * is bounded, progress forgives. What the source said in advance (size, digest) is held against
 * what comes: whoever sends more, less or something else is not believed. */
#include "core/model/model_download.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/model/model_part.h"
#include "core/model/model_source.h"

enum {
    POLL_MS = 100,
    VERIFY_BYTES = 4 << 20,    /* hashed between two turns of libcurl */
    FORGIVEN_BYTES = 64 << 10, /* a transfer that brought so much was worth it */
    ROOM_BYTES = 64 << 20,     /* how often room is looked for when nobody says how much comes */
    BAD_DIGESTS_MAX = 2,
};

enum phase { PHASE_LOADING, PHASE_VERIFYING, PHASE_DONE };

struct file {
    const struct model_source_file *source;
    char key[MODEL_ID_BYTES], sha256[DIGEST_HEX_BYTES];
    struct model_part part;
    enum phase phase;
    bool stream;    /* no ranges: one request, from the start */
    bool restarted; /* because it had changed */
    size_t num_active, num_bad;
    unsigned tries;
    int64_t next_try_ms;
    uint64_t bytes, verified;
    struct digest *digest, *git;
};

struct segment {
    struct segment *next;
    struct download *dl;
    struct file *file;
    struct model_transfer *transfer;
    uint64_t begin, at, end; /* end MODEL_BYTES_UNKNOWN: nobody knows */
    bool probe;              /* asks for everything, to learn the size */
    bool has_all;            /* ended by us because the rest is not wanted of it */
    bool again;              /* the file starts anew */
    struct error err;
};

struct download {
    const struct model_download *opt;
    struct model_http *http;
    struct model_incoming *in;
    struct model_source source;
    struct file *files;
    size_t num_done, num_segments;
    struct segment *segments;
    struct error err; /* what ends it */
};

static enum errc fail(struct download *dl, const struct error *why, const struct file *f) {
    if (!dl->err.code) {
        dl->err = *why;
        err_wrap(&dl->err, "file %.200s", f->source->path);
    }
    return dl->err.code;
}

static enum errc make_room(const struct download *dl, uint64_t bytes, struct error *err) {
    const struct model_room room = {
        .bytes = bytes, .bytes_max = dl->opt->bytes_max, .may_evict = dl->opt->may_evict};
    return model_store_make_room(dl->opt->store, &room, err);
}

/* Files. */

static enum errc open_part(struct download *dl, struct file *f, struct error *err) {
    uint64_t chunk = dl->opt->chunk_bytes ? dl->opt->chunk_bytes : MODEL_DOWNLOAD_CHUNK_BYTES;
    return model_part_open(dl->in, f->key, f->source->bytes, f->source->etag, chunk, &f->part, err);
}

/* Everything of the file is to come again. */
static enum errc start_anew(struct download *dl, struct file *f, struct error *err) {
    model_part_close(&f->part);
    model_incoming_drop(dl->in, f->key);
    return open_part(dl, f, err);
}

static void set_done(struct download *dl, struct file *f) {
    f->phase = PHASE_DONE;
    dl->num_done++;
}

static enum errc open_file(struct download *dl, struct file *f, struct error *err) {
    const struct model_source_file *s = f->source;
    AUTO_FREE char *expected = *s->sha256     ? mem_strdup(s->sha256)
                               : *s->git_sha1 ? mem_strdup(s->git_sha1)
                                              : mem_printf("%.*s %s", (int)strcspn(s->url, "?"),
                                                           s->url, s->etag ? s->etag : "");
    model_incoming_key(s->path, expected, f->key);
    f->part = (struct model_part){.fd = -1, .map_fd = -1};
    if (model_incoming_find(dl->in, f->key, f->sha256, &f->bytes) ||
        (*s->sha256 && model_incoming_adopt(dl->in, f->key, s->sha256, &f->bytes))) {
        if (*s->sha256)
            memcpy(f->sha256, s->sha256, DIGEST_HEX_BYTES);
        set_done(dl, f);
        return OK;
    }
    return open_part(dl, f, err);
}

static void close_file(struct file *f) {
    model_part_close(&f->part);
    digest_destroy(steal(f->digest));
    digest_destroy(steal(f->git));
}

static uint64_t bytes_of(const struct file *f) {
    return f->phase == PHASE_DONE ? f->bytes : f->part.bytes;
}

static void tell_progress(const struct download *dl) {
    uint64_t done = 0, total = 0;
    for (size_t i = 0; i < dl->source.num_files; i++) {
        const struct file *f = &dl->files[i];
        uint64_t bytes = bytes_of(f);
        total += bytes == MODEL_BYTES_UNKNOWN ? 0 : bytes;
        done += f->phase == PHASE_LOADING ? model_part_bytes_done(&f->part) : bytes;
    }
    atomic_store(&dl->opt->progress->bytes_total, total);
    atomic_store(&dl->opt->progress->bytes_done, done);
}

/* Verifying. */

static void begin_verify(struct file *f) {
    char head[48];
    f->phase = PHASE_VERIFYING;
    f->bytes = f->part.bytes;
    f->verified = 0;
    f->digest = digest_create(DIGEST_SHA256);
    if (!*f->source->git_sha1)
        return;
    int n = snprintf(head, sizeof(head), "blob %" PRIu64, f->bytes);
    f->git = digest_create(DIGEST_SHA1);
    digest_update(f->git, head, (size_t)n + 1); /* with the NUL */
}

static enum errc end_verify(struct download *dl, struct file *f, struct error *err) {
    char git[DIGEST_HEX_BYTES] = "";
    digest_hex(f->digest, f->sha256);
    if (f->git)
        digest_hex(f->git, git);
    const char *expected = *f->source->sha256 ? f->source->sha256 : f->source->git_sha1;
    const char *has = *f->source->sha256 ? f->sha256 : git;
    close_file(f);
    if (!*expected || !strcmp(expected, has)) {
        set_done(dl, f);
        return model_incoming_finish(dl->in, f->key, f->sha256, err);
    }
    f->phase = PHASE_LOADING;
    if (start_anew(dl, f, err))
        return err->code;
    if (++f->num_bad < BAD_DIGESTS_MAX)
        return OK;
    return err_set(err, ERR_INVALID,
                   "what came has the digest %s, expected %s: the file at the source is damaged or "
                   "the expectation is wrong",
                   has, expected);
}

static enum errc verify_some(struct download *dl, struct file *f, struct error *err) {
    AUTO_FREE char *data = mem_alloc(VERIFY_BYTES);
    ssize_t n = pread(f->part.fd, data, VERIFY_BYTES, (off_t)f->verified);
    if (n < 0)
        return errno == EINTR ? OK : err_errno(err, "read back");
    digest_update(f->digest, data, (size_t)n);
    if (f->git)
        digest_update(f->git, data, (size_t)n);
    f->verified += (uint64_t)n;
    return n ? OK : end_verify(dl, f, err);
}

/* Transfers. */

static bool end_segment(struct segment *s, enum errc code, const char *fmt, ...) PRINTF(3, 4);
static bool end_segment(struct segment *s, enum errc code, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    err_set(&s->err, code, "%s", text);
    return false;
}

/* Several requests share what is missing, none asks for less than a chunk. */
static size_t share(const struct file *f) {
    size_t each = (f->part.num_chunks - f->part.num_done) / MODEL_DOWNLOAD_TRANSFERS_MAX;
    return each < 1                               ? 1
           : each > MODEL_DOWNLOAD_SEGMENT_CHUNKS ? MODEL_DOWNLOAD_SEGMENT_CHUNKS
                                                  : each;
}

/* The size is learned from the answer. whole: all of it comes by this transfer, else a share. */
static bool learn_size(struct segment *s, uint64_t bytes, const char *etag, bool whole) {
    struct file *f = s->file;
    uint64_t first = 0;
    if (make_room(s->dl, bytes, &s->err) || model_part_set_size(&f->part, bytes, etag, &s->err))
        return false;
    s->end = bytes;
    if (bytes && !model_part_take(&f->part, whole ? SIZE_MAX : share(f), &first, &s->end))
        return end_segment(s, ERR_INTERNAL, "nothing to ask for");
    return true;
}

/* The whole file comes, by one request. */
static bool stream_head(struct segment *s, const struct model_response *r) {
    struct file *f = s->file;
    f->stream = true;
    s->probe = false;
    s->end = f->part.bytes;
    if (r->length == MODEL_BYTES_UNKNOWN)
        return f->part.bytes != MODEL_BYTES_UNKNOWN || !make_room(s->dl, ROOM_BYTES, &s->err);
    if (f->part.bytes == MODEL_BYTES_UNKNOWN)
        return learn_size(s, r->length, r->etag, true);
    if (r->length != f->part.bytes)
        return end_segment(s, ERR_CONFLICT, "the server sends %" PRIu64 " bytes, expected %" PRIu64,
                           r->length, f->part.bytes);
    return true;
}

static bool has_changed(const struct model_part *p, const struct model_response *r) {
    return p->etag && r->etag && strcmp(p->etag, r->etag) != 0;
}

static bool start_over(struct segment *s) {
    s->again = true;
    return end_segment(s, ERR_CONFLICT, "the file has changed at its source meanwhile");
}

static bool on_head(void *user, const struct model_response *r) {
    struct segment *s = user;
    struct file *f = s->file;
    if (f->stream)
        return stream_head(s, r);
    if (r->status == 206 && (!r->has_range || r->first != s->at))
        return end_segment(s, ERR_INVALID, "the server answers another range than was asked for");
    if (r->status == 206 && s->probe)
        return learn_size(s, r->total, r->etag, false);
    if (has_changed(&f->part, r))
        return start_over(s);
    if (r->status == 206)
        return r->total == f->part.bytes ||
               (*f->source->sha256 || f->source->bytes != MODEL_BYTES_UNKNOWN
                    ? end_segment(s, ERR_CONFLICT,
                                  "the server has %" PRIu64 " bytes, expected %" PRIu64, r->total,
                                  f->part.bytes)
                    : start_over(s));
    if (s->probe)
        return stream_head(s, r);
    f->stream = true; /* it sends everything, whatever is asked for */
    s->again = true;
    return end_segment(s, ERR_UNAVAILABLE, "the server has no ranges");
}

static bool on_data(void *user, const void *data, size_t len) {
    struct segment *s = user;
    bool more = s->end != MODEL_BYTES_UNKNOWN && len > s->end - s->at;
    if (more && !s->probe)
        return end_segment(s, ERR_INVALID,
                           "the server sends more than the %" PRIu64 " bytes that it was asked for",
                           s->end - s->begin);
    if (more)
        len = (size_t)(s->end - s->at);
    if (s->end == MODEL_BYTES_UNKNOWN && s->at / ROOM_BYTES != (s->at + len) / ROOM_BYTES &&
        make_room(s->dl, ROOM_BYTES, &s->err))
        return false;
    if (model_part_write(&s->file->part, s->at, data, len, &s->err))
        return false;
    s->at += len;
    if (s->at - s->begin >= FORGIVEN_BYTES)
        s->file->tries = 0;
    s->has_all = s->probe && s->at == s->end && s->end < s->file->part.bytes;
    return !s->has_all;
}

/* It may go better next time. */
static void try_later(struct download *dl, struct file *f, const struct error *why) {
    int64_t now = clock_mono_ms();
    if (f->tries + 1 >= MODEL_HTTP_TRIES_MAX ||
        why->retry_after_seconds > MODEL_HTTP_RETRY_AFTER_MAX) {
        fail(dl, why, f);
        return;
    }
    f->next_try_ms = now + model_http_retry_ms(dl->http, f->tries, why);
    f->tries++;
}

static void unlink_segment(struct segment *s) {
    struct segment **at = &s->dl->segments;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->file->num_active--;
    s->dl->num_segments--;
}

static void stop_segments(struct download *dl, const struct file *f) {
    for (struct segment *s = dl->segments, *next; s; s = next) {
        next = s->next;
        if (f && s->file != f)
            continue;
        model_http_stop(dl->http, s->transfer);
        unlink_segment(s);
        free(s);
    }
}

/* The other transfers of the file belong to what it was. */
static void begin_again(struct download *dl, struct file *f, const struct error *why) {
    struct error err = ERROR_INIT;
    stop_segments(dl, f);
    if (f->restarted && why->code == ERR_CONFLICT) {
        fail(dl, why, f);
        return;
    }
    f->restarted = f->restarted || why->code == ERR_CONFLICT;
    if (start_anew(dl, f, &err))
        fail(dl, &err, f);
}

/* Of a stream nothing can be gone on with. */
static void reset_stream(struct download *dl, struct file *f) {
    struct error err = ERROR_INIT;
    if (f->stream && model_part_reset(&f->part, &err))
        fail(dl, &err, f);
}

/* How the transfer went; err OK: what came is all that was to come. */
static enum errc judge(struct segment *s, const struct error *err, struct error *ret) {
    bool ours = err->code == ERR_CANCELLED;
    if (ours && !s->has_all)
        *ret = s->err;
    else if (err->code && !ours)
        *ret = *err;
    else if (s->end != MODEL_BYTES_UNKNOWN && s->at < s->end)
        err_set(ret, ERR_UNAVAILABLE, "the answer ended after %" PRIu64 " of %" PRIu64 " bytes",
                s->at - s->begin, s->end - s->begin);
    return ret->code;
}

static void on_done(void *user, const struct model_response *r, const struct error *err) {
    struct segment *s = user;
    struct download *dl = s->dl;
    struct file *f = s->file;
    struct error why = ERROR_INIT;
    enum errc rc = judge(s, err, &why);
    unlink_segment(s);
    if (rc)
        model_part_give_back(&f->part, s->at, s->end == MODEL_BYTES_UNKNOWN ? s->at : s->end);
    if (!rc && s->end == MODEL_BYTES_UNKNOWN) { /* its end says how long it was */
        f->part.bytes = s->at;
        begin_verify(f);
    } else if (rc && s->again) {
        begin_again(dl, f, &why);
    } else if (rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT) {
        reset_stream(dl, f);
        try_later(dl, f, &why);
    } else if (rc) {
        fail(dl, &why, f);
    }
    free(s);
}

static void start_segment(struct download *dl, struct file *f, const struct segment *how) {
    struct segment *s = mem_dup(how, sizeof(*how));
    const char *etag = f->part.etag;
    const struct model_request r = {.url = f->source->url,
                                    .auth = &dl->source.auth,
                                    .if_range = etag && *etag == '"' && !f->stream ? etag : NULL,
                                    .ranged = !f->stream,
                                    .open_ended = s->probe,
                                    .first = s->at,
                                    .last = s->end - 1,
                                    .head = on_head,
                                    .data = on_data,
                                    .done = on_done,
                                    .user = s};
    struct error err = ERROR_INIT;
    s->dl = dl;
    s->file = f;
    if (model_http_start(dl->http, &r, &s->transfer, &err)) {
        free(s);
        fail(dl, &err, f);
        return;
    }
    s->next = dl->segments;
    dl->segments = s;
    dl->num_segments++;
    f->num_active++;
}

static void start_due(struct download *dl, struct file *f, int64_t now_ms) {
    if (f->phase != PHASE_LOADING || now_ms < f->next_try_ms)
        return;
    if (model_part_complete(&f->part)) {
        if (!f->num_active)
            begin_verify(f);
        return;
    }
    if ((f->stream || !f->part.chunks) && f->num_active)
        return;
    if (f->stream || !f->part.chunks) {
        struct segment s = {.end = f->part.bytes, .probe = !f->stream};
        uint64_t first;
        if (f->part.chunks && !model_part_take(&f->part, SIZE_MAX, &first, &s.end))
            return;
        start_segment(dl, f, &s);
        return;
    }
    struct segment s = {0};
    while (!dl->err.code && dl->num_segments < MODEL_DOWNLOAD_TRANSFERS_MAX &&
           model_part_take(&f->part, share(f), &s.begin, &s.end)) {
        s.at = s.begin;
        start_segment(dl, f, &s);
    }
}

static enum errc run(struct download *dl, struct error *err) {
    while (dl->num_done < dl->source.num_files) {
        bool busy = false;
        int64_t now = clock_mono_ms();
        for (size_t i = 0; i < dl->source.num_files && !dl->err.code; i++) {
            struct file *f = &dl->files[i];
            if (dl->num_segments < MODEL_DOWNLOAD_TRANSFERS_MAX)
                start_due(dl, f, now);
            struct error why = ERROR_INIT;
            if (f->phase == PHASE_VERIFYING && verify_some(dl, f, &why))
                fail(dl, &why, f);
            busy = busy || f->phase == PHASE_VERIFYING;
        }
        if (atomic_load(&dl->opt->progress->cancelled))
            return err_set(err, ERR_CANCELLED, "the download was cancelled");
        if (dl->err.code) {
            *err = dl->err;
            return err->code;
        }
        if (dl->num_done < dl->source.num_files)
            model_http_poll(dl->http, busy ? 0 : POLL_MS);
        tell_progress(dl);
    }
    return OK;
}

/* What is known to be missing must have a place before anything is asked for. */
static enum errc open_files(struct download *dl, struct error *err) {
    uint64_t missing = 0;
    dl->files = mem_array(dl->source.num_files, sizeof(dl->files[0]));
    for (size_t i = 0; i < dl->source.num_files; i++)
        dl->files[i].part = (struct model_part){.fd = -1, .map_fd = -1};
    for (size_t i = 0; i < dl->source.num_files; i++) {
        struct file *f = &dl->files[i];
        f->source = &dl->source.files[i];
        if (open_file(dl, f, err))
            return err->code;
        if (f->phase != PHASE_DONE && f->part.bytes != MODEL_BYTES_UNKNOWN)
            missing += f->part.bytes - model_part_bytes_done(&f->part);
    }
    tell_progress(dl);
    return make_room(dl, missing, err);
}

static enum errc commit(struct download *dl, struct error *err) {
    AUTO(model_manifest) m = mem_alloc(sizeof(*m));
    m->reference = mem_strdup(dl->opt->reference);
    m->revision = mem_strdup(dl->source.revision);
    m->added_ms = clock_wall_ms();
    m->num_files = dl->source.num_files;
    m->files = mem_array(m->num_files, sizeof(m->files[0]));
    for (size_t i = 0; i < m->num_files; i++) {
        m->files[i].path = mem_strdup(dl->files[i].source->path);
        m->files[i].bytes = dl->files[i].bytes;
        memcpy(m->files[i].sha256, dl->files[i].sha256, DIGEST_HEX_BYTES);
    }
    return model_incoming_commit(dl->in, m, err);
}

static enum errc download(struct download *dl, const struct model_ref *ref, struct error *err) {
    json_t *none = json_object();
    enum errc rc = model_incoming_open(dl->opt->store, dl->opt->reference, &dl->in, err);
    if (!rc)
        rc = model_source_find(dl->http, ref, dl->opt->env ? dl->opt->env : none, &dl->source, err);
    if (!rc)
        rc = open_files(dl, err);
    if (!rc)
        rc = run(dl, err);
    if (!rc)
        rc = commit(dl, err);
    json_decref(none);
    return rc;
}

static void download_deinit(struct download *dl) {
    stop_segments(dl, NULL);
    for (size_t i = 0; dl->files && i < dl->source.num_files; i++)
        close_file(&dl->files[i]);
    free(dl->files);
    model_source_deinit(&dl->source);
    model_http_destroy(dl->http);
    model_incoming_close(dl->in);
}

enum errc model_download(const struct model_download *d, struct model_manifest **ret_m,
                         struct error *err) {
    struct download dl = {.opt = d};
    struct model_ref ref;
    if (model_ref_parse(d->reference, &ref, err))
        return err->code == ERR_NOT_FOUND ? (err->code = ERR_INVALID) : err->code;
    const struct model_http_options http = {.slow_seconds = d->slow_seconds,
                                            .retry_ms = d->retry_ms,
                                            .cancelled = &d->progress->cancelled};
    dl.http = model_http_create(&http);
    enum errc rc = download(&dl, &ref, err);
    download_deinit(&dl);
    model_ref_deinit(&ref);
    return rc ? rc : model_store_find(d->store, d->reference, ret_m, err);
}
