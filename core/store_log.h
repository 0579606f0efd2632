/* The log on disk: every revision of every object, in one SQLite table. The only file that calls
 * SQLite. One thread writes through a store_log; any thread reads through readers of its own. */
#ifndef CORE_STORE_LOG_H
#define CORE_STORE_LOG_H

#include <jansson.h>

#include "core/base/mem.h"

struct seal;
struct store_log;
struct store_log_reader;

/* One revision. For a deletion `json` is the last state, stamped with the deletion's revision. */
struct store_row {
    int64_t revision;
    int64_t create_revision;
    int64_t prev_revision; /* 0: a creation */
    bool deleted;
    const char *key;
    json_t *json;
};

/* Called for a row; takes the json of row and of previous, the state that it superseded (NULL:
 * none, or not asked for); keys are borrowed for the call. */
typedef void store_row_fn(void *user, const struct store_row *row,
                          const struct store_row *previous);

/* Opens or makes the file and locks it against a second daemon. ERR_UNAVAILABLE: another process
 * has it; ERR_INVALID: not inferd's database, a newer one, or damaged; ERR_IO. With a seal
 * (borrowed, may be NULL) everything that it covers is sealed under its first key once this
 * returns; without keys it gets one, unless something is sealed already: ERR_INVALID. */
MUST_CHECK enum errc store_log_open(const char *path, struct seal *seal, struct store_log **ret_log,
                                    struct error *err);
void store_log_close(struct store_log *log);
DEFINE_AUTO(store_log, store_log_close)

int64_t store_log_revision(const struct store_log *log);  /* the newest ever given out, >= 1 */
int64_t store_log_compacted(const struct store_log *log); /* history reaches back to here */

/* Every current object, ordered by key. */
MUST_CHECK enum errc store_log_load(struct store_log *log, store_row_fn *fn, void *user,
                                    struct error *err);

/* One transaction: begin, any number of appends (revisions going up by one), commit. After a
 * failure of any of them the transaction is rolled back and the log is as before begin. */
MUST_CHECK enum errc store_log_begin(struct store_log *log, struct error *err);
MUST_CHECK enum errc store_log_append(struct store_log *log, const struct store_row *row,
                                      const char *text, size_t text_len, struct error *err);
MUST_CHECK enum errc store_log_commit(struct store_log *log, struct error *err);
void store_log_rollback(struct store_log *log); /* nothing happens outside a transaction */

/* Forgets what was superseded or deleted at or before `revision`, in one transaction. */
MUST_CHECK enum errc store_log_compact(struct store_log *log, int64_t revision, struct error *err);

/* Reads the log beside the writer, for watches that are behind the events in memory. */
MUST_CHECK enum errc store_log_reader_open(const char *path, const struct seal *seal,
                                           struct store_log_reader **ret_r, struct error *err);
void store_log_reader_close(struct store_log_reader *r);
DEFINE_AUTO(store_log_reader, store_log_reader_close)

/* Gives fn the rows with after < revision <= upto whose key starts with prefix, oldest first, at
 * most rows_max, each with the state before it. *ret_seen is how far the log was read. ERR_GONE:
 * compacted beyond `after`. */
MUST_CHECK enum errc store_log_read(struct store_log_reader *r, const char *prefix, int64_t after,
                                    int64_t upto, int rows_max, store_row_fn *fn, void *user,
                                    int64_t *ret_seen, struct error *err);

#endif
