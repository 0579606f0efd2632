/* Sealing what is there already: databases of before, keys that change, resources that are added.
 *
 * The scan is rare. meta.sealed holds the fingerprint of the keys and resources for which it was
 * done, and what is written afterwards is written sealed; only another fingerprint makes a start
 * read the whole log. Batches are transactions of their own, and the fingerprint is set last: a
 * start that is cut short goes on with the next one.
 *
 * SQLite leaves old bytes in free pages and in the WAL. So when a row was in the clear (or the
 * database is of a version that knew no seal, and may have forgotten one) the file is written anew
 * (VACUUM, which copies only what is live) and the WAL is emptied. The first batch of such rows
 * sets meta.sealed to CLEANING, so that this is not forgotten either. */
#include "core/store_seal.h"

#include <inttypes.h>

enum { BATCH_ROWS = 256, CLEANING = -1 };

/* A row to be rewritten. */
struct stale {
    int64_t revision;
    struct buf sealed;
};

static enum errc fail(sqlite3 *db, struct error *err) {
    return err_set(err, ERR_IO, "seal: %s (SQLite code %d)", sqlite3_errmsg(db),
                   sqlite3_extended_errcode(db));
}

static enum errc run(sqlite3 *db, const char *sql, struct error *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? OK : fail(db, err);
}

static enum errc query(sqlite3 *db, const char *sql, int64_t *value, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
        return fail(db, err);
    int step = sqlite3_step(st);
    if (step == SQLITE_ROW)
        *value = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return step == SQLITE_ROW || step == SQLITE_DONE ? OK : fail(db, err);
}

/* Fills in the sealed form of the statement's row, when that is due. */
static enum errc reseal(sqlite3_stmt *st, const struct seal *seal, struct stale *ret_stale,
                        bool *ret_plain, struct error *err) {
    const char *key = (const char *)sqlite3_column_text(st, 1);
    int64_t revision = sqlite3_column_int64(st, 0);
    bool sealed = sqlite3_column_type(st, 2) == SQLITE_BLOB;
    if (!key || (!sealed && !seal_covers(seal, key)))
        return OK;
    const void *value = sqlite3_column_blob(st, 2);
    size_t len = (size_t)sqlite3_column_bytes(st, 2);
    if (!value || (sealed && seal_is_current(seal, value, len)))
        return OK;
    AUTO_BUF text = BUF_INIT;
    if (!sealed)
        buf_append(&text, value, len);
    else if (seal_unseal(seal, key, revision, value, len, &text, err))
        return err->code;
    ret_stale->revision = revision;
    seal_text(seal, key, revision, text.data, text.len, &ret_stale->sealed);
    explicit_bzero(text.data, text.len);
    *ret_plain = *ret_plain || !sealed;
    return OK;
}

static enum errc write_batch(sqlite3 *db, const struct stale *rows, size_t num_rows, bool plain,
                             struct error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, "UPDATE log SET value = ?2 WHERE id = ?1", -1, &st, NULL) !=
            SQLITE_OK ||
        run(db, "BEGIN IMMEDIATE", err))
        return err->code ? err->code : fail(db, err);
    enum errc rc = OK;
    if (plain) {
        AUTO_FREE char *mark =
            mem_printf("INSERT OR REPLACE INTO meta VALUES('sealed', %d)", CLEANING);
        rc = run(db, mark, err);
    }
    for (size_t i = 0; i < num_rows && !rc; i++) {
        sqlite3_bind_int64(st, 1, rows[i].revision);
        sqlite3_bind_blob64(st, 2, rows[i].sealed.data, rows[i].sealed.len, SQLITE_STATIC);
        rc = sqlite3_step(st) == SQLITE_DONE ? OK : fail(db, err);
        sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    if (!rc)
        rc = run(db, "COMMIT", err);
    if (rc && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* One batch behind *cursor, which moves on; *ret_done: the log has ended. */
static enum errc seal_batch(sqlite3 *db, const struct seal *seal, int64_t *cursor, bool *ret_plain,
                            bool *ret_done, struct error *err) {
    struct stale rows[BATCH_ROWS] = {0};
    size_t num_rows = 0;
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, "SELECT id, key, value FROM log WHERE id > ?1 ORDER BY id", -1, &st,
                           NULL) != SQLITE_OK)
        return fail(db, err);
    sqlite3_bind_int64(st, 1, *cursor);
    enum errc rc = OK;
    int step = SQLITE_DONE;
    while (!rc && num_rows < BATCH_ROWS && (step = sqlite3_step(st)) == SQLITE_ROW) {
        rc = reseal(st, seal, &rows[num_rows], ret_plain, err);
        num_rows += rows[num_rows].sealed.len > 0;
        *cursor = sqlite3_column_int64(st, 0);
    }
    if (!rc && step != SQLITE_ROW && step != SQLITE_DONE)
        rc = fail(db, err);
    sqlite3_finalize(st);
    *ret_done = step == SQLITE_DONE;
    if (!rc && num_rows)
        rc = write_batch(db, rows, num_rows, *ret_plain, err);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        buf_deinit(&rows[i].sealed);
    return rc;
}

/* A key for a seal that has none; an error when there is something to be opened. */
static enum errc provide_key(sqlite3 *db, struct seal *seal, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db,
                           "SELECT id, key, value FROM log WHERE typeof(value) = 'blob' LIMIT 1",
                           -1, &st, NULL) != SQLITE_OK)
        return fail(db, err);
    enum errc rc = OK;
    int step = sqlite3_step(st);
    const char *key = step == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 1) : NULL;
    AUTO_BUF text = BUF_INIT;
    if (key)
        rc = seal_unseal(seal, key, sqlite3_column_int64(st, 0), sqlite3_column_blob(st, 2),
                         (size_t)sqlite3_column_bytes(st, 2), &text, err);
    else if (step != SQLITE_DONE)
        rc = fail(db, err);
    sqlite3_finalize(st);
    return rc ? rc : seal_make_key(seal, err);
}

enum errc store_seal_rows(sqlite3 *db, struct seal *seal, int schema_version, struct error *err) {
    int64_t done = 0, version = 0, cursor = 0;
    if (!seal_has_keys(seal) && provide_key(db, seal, err))
        return err->code;
    if (query(db, "SELECT value FROM meta WHERE name = 'sealed'", &done, err) ||
        query(db, "PRAGMA user_version", &version, err))
        return err->code;
    if (done == seal_fingerprint(seal) && version == schema_version)
        return OK;
    bool plain = done == CLEANING || version != schema_version, end = false;
    while (!end) {
        if (seal_batch(db, seal, &cursor, &plain, &end, err))
            return err->code;
    }
    if (plain && run(db, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE);", err))
        return err->code;
    AUTO_FREE char *sql = mem_printf("BEGIN; INSERT OR REPLACE INTO meta VALUES('sealed', %" PRId64
                                     "); PRAGMA user_version = %d; COMMIT;",
                                     seal_fingerprint(seal), schema_version);
    return run(db, sql, err);
}
