/* A log-structured table, after the idea of k3s' kine: rows are only ever added, the row id is the
 * revision, and a row says which one it supersedes. The current state is every row that no other
 * row supersedes; the history is the rest, until compaction forgets it.
 *
 *   log(id, key, deleted, create_revision, prev_revision, value)
 *       id               the revision, AUTOINCREMENT: never used twice, also after compaction
 *       prev_revision    the row of the same key before this one; 0 for a creation
 *       value            the object's JSON, with metadata.resourceVersion = id; a BLOB: sealed
 *   meta(name, value)    "compacted": the oldest revision that a watch can still start from
 *                        "sealed": the seal's fingerprint, when every row is as it wants it
 *
 * There is no index on key: memory answers by key, the disk only appends, so a commit touches the
 * last page of one b-tree. A row that superseded revision r is newer than r, which lets compaction
 * find its victims by a range of ids: those superseded by, and deletions within, the range.
 *
 * Durability: WAL with synchronous=FULL syncs the WAL at each commit. A commit that fails is rolled
 * back; its frames stay behind the WAL's last valid one and are overwritten. */
#include "core/store_log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/seal.h"
#include "core/store_seal.h"

enum {
    APPLICATION_ID = 0x696e6664, /* "infd" */
    SCHEMA_VERSION = 2,          /* 1 knew no sealed rows */
    BUSY_MS_MAX = 5000,          /* a checkpoint of a reader that just closed */
    WAL_BYTES_KEPT = 16 << 20,
};

struct store_log {
    char *path;
    int lock_fd;
    sqlite3 *db;
    sqlite3_stmt *insert;
    struct seal *seal; /* NULL: none */
    struct buf sealed; /* of the row that is being written */
    int64_t revision;  /* committed */
    int64_t appended;  /* last revision appended in the open transaction */
    int64_t compacted;
    bool in_transaction;
};

struct store_log_reader {
    char *path;
    sqlite3 *db;
    const struct seal *seal;
    sqlite3_stmt *compacted, *range, *one;
};

static enum errc db_error(sqlite3 *db, const char *path, const char *doing, struct error *err) {
    int code = db ? sqlite3_errcode(db) : SQLITE_NOMEM;
    const char *text = db ? sqlite3_errmsg(db) : "out of memory";
    switch (code & 0xFF) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return err_set(err, ERR_INVALID,
                       "%s: %s: %s (restore a backup, or move the file away to start empty)", path,
                       doing, text);
    case SQLITE_FULL:
        return err_set(err, ERR_IO, "%s: %s: no space left on the disk", path, doing);
    default:
        return err_set(err, ERR_IO, "%s: %s: %s (SQLite code %d)", path, doing, text,
                       db ? sqlite3_extended_errcode(db) : code);
    }
}

static enum errc exec(struct store_log *log, const char *sql, const char *doing,
                      struct error *err) {
    if (sqlite3_exec(log->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return db_error(log->db, log->path, doing, err);
    return OK;
}

/* The single integer that a query gives; `otherwise` when it gives no row. */
static enum errc query_int(struct store_log *log, const char *sql, int64_t otherwise,
                           int64_t *ret_value, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(log->db, sql, -1, &st, NULL) != SQLITE_OK)
        return db_error(log->db, log->path, "read", err);
    int step = sqlite3_step(st);
    int64_t value = step == SQLITE_ROW ? sqlite3_column_int64(st, 0) : otherwise;
    sqlite3_finalize(st);
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return db_error(log->db, log->path, "read", err);
    *ret_value = value;
    return OK;
}

/* A lock file beside the database: SQLite's own locks would let two daemons take turns. */
static enum errc lock(struct store_log *log, struct error *err) {
    AUTO_FREE char *path = mem_printf("%s.lock", log->path);
    log->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log->lock_fd < 0)
        return err_errno(err, "open %s", path);
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB)) {
        char pid[32] = "";
        ssize_t n = read(log->lock_fd, pid, sizeof(pid) - 1);
        pid[n > 0 ? (size_t)n : 0] = '\0';
        return err_set(err, ERR_UNAVAILABLE,
                       "%s: in use by another inferd (process %s): one data directory serves one "
                       "daemon; stop that one or give this one another --data-dir",
                       log->path, pid[0] ? pid : "unknown");
    }
    char pid[32];
    int len = snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    if (ftruncate(log->lock_fd, 0) || pwrite(log->lock_fd, pid, (size_t)len, 0) != len)
        return err_errno(err, "write %s", path);
    return OK;
}

static enum errc create_schema(struct store_log *log, struct error *err) {
    AUTO_FREE char *sql = mem_printf(
        "BEGIN;"
        "CREATE TABLE log(id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,"
        " deleted INTEGER NOT NULL, create_revision INTEGER NOT NULL,"
        " prev_revision INTEGER NOT NULL, value TEXT NOT NULL);"
        "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
        /* resourceVersion 0 means "any" on the wire, so an empty store is at revision 1. */
        "INSERT INTO sqlite_sequence(name, seq) VALUES('log', 1);"
        "INSERT INTO meta VALUES('compacted', 1);"
        "PRAGMA application_id=%d; PRAGMA user_version=%d; COMMIT;",
        APPLICATION_ID, SCHEMA_VERSION);
    return exec(log, sql, "create", err);
}

static enum errc check_schema(struct store_log *log, struct error *err) {
    int64_t application = 0, version = 0, tables = 0;
    if (query_int(log, "PRAGMA application_id", 0, &application, err) ||
        query_int(log, "PRAGMA user_version", 0, &version, err) ||
        query_int(log, "SELECT count(*) FROM sqlite_master", 0, &tables, err))
        return err->code;
    if (!application && !tables)
        return create_schema(log, err);
    if (application != APPLICATION_ID)
        return err_set(err, ERR_INVALID,
                       "%s: a SQLite database of another program (application id 0x%08" PRIx64
                       ", not inferd's 0x%08x)",
                       log->path, (uint64_t)application, (unsigned)APPLICATION_ID);
    if (version < 1 || version > SCHEMA_VERSION)
        return err_set(err, ERR_INVALID,
                       "%s: written by a newer inferd (schema %" PRId64 ", this one knows %d)",
                       log->path, version, SCHEMA_VERSION);
    return OK;
}

static enum errc open_database(struct store_log *log, struct error *err) {
    /* Secrets lie in it: made here, so that nobody else may read it; SQLite copies the mode. */
    int fd = open(log->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, "open %s", log->path);
    close(fd);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(log->path, &log->db, flags, NULL) != SQLITE_OK)
        return db_error(log->db, log->path, "open", err);
    sqlite3_extended_result_codes(log->db, 1);
    sqlite3_busy_timeout(log->db, BUSY_MS_MAX);
    AUTO_FREE char *pragmas = mem_printf("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                         "PRAGMA journal_size_limit=%d;",
                                         WAL_BYTES_KEPT);
    if (exec(log, pragmas, "open", err) || check_schema(log, err))
        return err->code;
    if (log->seal && store_seal_rows(log->db, log->seal, SCHEMA_VERSION, err))
        return err_wrap(err, "%s", log->path);
    if (query_int(log, "SELECT seq FROM sqlite_sequence WHERE name='log'", 1, &log->revision,
                  err) ||
        query_int(log, "SELECT value FROM meta WHERE name='compacted'", 1, &log->compacted, err))
        return err->code;
    if (sqlite3_prepare_v3(log->db, "INSERT INTO log VALUES(?1, ?2, ?3, ?4, ?5, ?6)", -1,
                           SQLITE_PREPARE_PERSISTENT, &log->insert, NULL) != SQLITE_OK)
        return db_error(log->db, log->path, "open", err);
    return OK;
}

enum errc store_log_open(const char *path, struct seal *seal, struct store_log **ret_log,
                         struct error *err) {
    AUTO(store_log) log = mem_alloc(sizeof(*log));
    log->path = mem_strdup(path);
    log->seal = seal;
    log->lock_fd = -1;
    if (lock(log, err) || open_database(log, err))
        return err->code;
    *ret_log = steal(log);
    return OK;
}

void store_log_close(struct store_log *log) {
    if (!log)
        return;
    store_log_rollback(log);
    sqlite3_finalize(log->insert);
    sqlite3_close(log->db);
    if (log->lock_fd >= 0)
        close(log->lock_fd); /* the file stays: removing it would race with the next daemon */
    buf_deinit(&log->sealed);
    free(log->path);
    free(log);
}

int64_t store_log_revision(const struct store_log *log) {
    return log->revision;
}

int64_t store_log_compacted(const struct store_log *log) {
    return log->compacted;
}

#define COLUMNS "id, key, deleted, create_revision, prev_revision, value"

/* Gives the value's JSON; sealed text is opened, parsed and wiped. */
static json_t *parse_value(sqlite3_stmt *st, const struct seal *seal, const struct store_row *row,
                           json_error_t *why, struct error *err) {
    const void *value = sqlite3_column_blob(st, 5);
    size_t len = (size_t)sqlite3_column_bytes(st, 5);
    if (!value || sqlite3_column_type(st, 5) != SQLITE_BLOB)
        return value ? json_loadb(value, len, JSON_ALLOW_NUL, why) : NULL;
    AUTO_BUF text = BUF_INIT;
    if (seal_unseal(seal, row->key, row->revision, value, len, &text, err))
        return NULL;
    json_t *json = json_loadb(text.data, text.len, JSON_ALLOW_NUL, why);
    explicit_bzero(text.data, text.len);
    return json;
}

/* Reads the statement's COLUMNS; the key is borrowed until its next step. */
static enum errc take_row(sqlite3_stmt *st, const char *path, const struct seal *seal,
                          struct store_row *ret_row, struct error *err) {
    struct store_row row = {
        .revision = sqlite3_column_int64(st, 0),
        .key = (const char *)sqlite3_column_text(st, 1),
        .deleted = sqlite3_column_int(st, 2),
        .create_revision = sqlite3_column_int64(st, 3),
        .prev_revision = sqlite3_column_int64(st, 4),
    };
    json_error_t why = {.text = "no value"};
    struct error sealed = ERROR_INIT;
    row.json = row.key ? parse_value(st, seal, &row, &why, &sealed) : NULL;
    if (sealed.code)
        return err_set(err, sealed.code, "%s: %s", path, sealed.text);
    if (!row.json) {
        return err_set(err, ERR_INVALID,
                       "%s: revision %" PRId64 " (%s) is damaged: %s at byte %d (restore a backup)",
                       path, row.revision, row.key ? row.key : "no key", why.text, why.position);
    }
    *ret_row = row;
    return OK;
}

enum errc store_log_load(struct store_log *log, store_row_fn *fn, void *user, struct error *err) {
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(log->db,
                           "SELECT " COLUMNS " FROM log WHERE deleted = 0"
                           " AND id NOT IN (SELECT prev_revision FROM log) ORDER BY key",
                           -1, &st, NULL) != SQLITE_OK)
        return db_error(log->db, log->path, "load", err);
    enum errc rc = OK;
    int step = SQLITE_DONE;
    while (!rc && (step = sqlite3_step(st)) == SQLITE_ROW) {
        struct store_row row;
        rc = take_row(st, log->path, log->seal, &row, err);
        if (!rc)
            fn(user, &row, NULL);
    }
    if (!rc && step != SQLITE_DONE)
        rc = db_error(log->db, log->path, "load", err);
    sqlite3_finalize(st);
    return rc;
}

enum errc store_log_begin(struct store_log *log, struct error *err) {
    ASSERT(!log->in_transaction);
    if (exec(log, "BEGIN IMMEDIATE", "begin", err))
        return err->code;
    log->in_transaction = true;
    log->appended = log->revision;
    return OK;
}

enum errc store_log_append(struct store_log *log, const struct store_row *row, const char *text,
                           size_t text_len, struct error *err) {
    ASSERT(log->in_transaction && row->revision == log->appended + 1);
    sqlite3_bind_int64(log->insert, 1, row->revision);
    sqlite3_bind_text(log->insert, 2, row->key, -1, SQLITE_STATIC);
    sqlite3_bind_int(log->insert, 3, row->deleted);
    sqlite3_bind_int64(log->insert, 4, row->create_revision);
    sqlite3_bind_int64(log->insert, 5, row->prev_revision);
    if (log->seal && seal_covers(log->seal, row->key)) {
        buf_clear(&log->sealed);
        seal_text(log->seal, row->key, row->revision, text, text_len, &log->sealed);
        sqlite3_bind_blob64(log->insert, 6, log->sealed.data, log->sealed.len, SQLITE_STATIC);
    } else {
        sqlite3_bind_text64(log->insert, 6, text, text_len, SQLITE_STATIC, SQLITE_UTF8);
    }
    int step = sqlite3_step(log->insert);
    enum errc rc = step == SQLITE_DONE ? OK : db_error(log->db, log->path, "write", err);
    sqlite3_reset(log->insert);
    sqlite3_clear_bindings(log->insert);
    if (rc)
        store_log_rollback(log);
    else
        log->appended = row->revision;
    return rc;
}

enum errc store_log_commit(struct store_log *log, struct error *err) {
    ASSERT(log->in_transaction);
    if (exec(log, "COMMIT", "commit", err)) {
        store_log_rollback(log);
        return err->code;
    }
    log->in_transaction = false;
    log->revision = log->appended;
    return OK;
}

void store_log_rollback(struct store_log *log) {
    if (!log->in_transaction)
        return;
    log->in_transaction = false;
    /* SQLite has rolled back by itself after a full disk and some I/O errors. */
    if (!sqlite3_get_autocommit(log->db))
        sqlite3_exec(log->db, "ROLLBACK", NULL, NULL, NULL);
}

enum errc store_log_compact(struct store_log *log, int64_t revision, struct error *err) {
    if (store_log_begin(log, err))
        return err->code;
    AUTO_FREE char *sql =
        mem_printf("DELETE FROM log WHERE id IN (SELECT prev_revision FROM log"
                   " WHERE id > %" PRId64 " AND id <= %" PRId64 " AND prev_revision > 0);"
                   "DELETE FROM log WHERE id > %" PRId64 " AND id <= %" PRId64 " AND deleted;"
                   "UPDATE meta SET value = %" PRId64 " WHERE name = 'compacted';",
                   log->compacted, revision, log->compacted, revision, revision);
    if (exec(log, sql, "compact", err)) {
        store_log_rollback(log);
        return err->code;
    }
    if (store_log_commit(log, err))
        return err->code;
    log->compacted = revision;
    return OK;
}

enum errc store_log_reader_open(const char *path, const struct seal *seal,
                                struct store_log_reader **ret_r, struct error *err) {
    AUTO(store_log_reader) r = mem_alloc(sizeof(*r));
    r->path = mem_strdup(path);
    r->seal = seal;
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &r->db, flags, NULL) != SQLITE_OK)
        return db_error(r->db, path, "open to read", err);
    sqlite3_busy_timeout(r->db, BUSY_MS_MAX);
    const char *range = "SELECT " COLUMNS " FROM log WHERE id > ?1 AND id <= ?2 ORDER BY id";
    const char *one = "SELECT " COLUMNS " FROM log WHERE id = ?1";
    if (sqlite3_prepare_v2(r->db, "SELECT value FROM meta WHERE name='compacted'", -1,
                           &r->compacted, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(r->db, range, -1, &r->range, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(r->db, one, -1, &r->one, NULL) != SQLITE_OK)
        return db_error(r->db, path, "open to read", err);
    *ret_r = steal(r);
    return OK;
}

void store_log_reader_close(struct store_log_reader *r) {
    if (!r)
        return;
    sqlite3_finalize(r->compacted);
    sqlite3_finalize(r->range);
    sqlite3_finalize(r->one);
    sqlite3_close(r->db);
    free(r->path);
    free(r);
}

/* Gives the range statement's row to fn, with the row that it superseded. */
static enum errc give_event(struct store_log_reader *r, store_row_fn *fn, void *user,
                            struct error *err) {
    struct store_row row = {0}, previous = {0};
    if (take_row(r->range, r->path, r->seal, &row, err))
        return err->code;
    if (!row.prev_revision) {
        fn(user, &row, NULL);
        return OK;
    }
    sqlite3_bind_int64(r->one, 1, row.prev_revision);
    enum errc rc = sqlite3_step(r->one) == SQLITE_ROW
                       ? take_row(r->one, r->path, r->seal, &previous, err)
                       : db_error(r->db, r->path, "read history", err);
    if (rc)
        json_decref(row.json);
    else
        fn(user, &row, &previous);
    sqlite3_reset(r->one);
    return rc;
}

/* Runs inside a read transaction, so that compaction cannot pass between the statements. */
static enum errc read_rows(struct store_log_reader *r, const char *prefix, int64_t after,
                           int64_t upto, int rows_max, store_row_fn *fn, void *user,
                           int64_t *ret_seen, struct error *err) {
    if (sqlite3_step(r->compacted) != SQLITE_ROW)
        return db_error(r->db, r->path, "read history", err);
    int64_t compacted = sqlite3_column_int64(r->compacted, 0);
    if (after < compacted)
        return err_set(err, ERR_GONE,
                       "revision %" PRId64 " is older than the history (%" PRId64 ")", after,
                       compacted);
    size_t prefix_len = strlen(prefix);
    sqlite3_bind_int64(r->range, 1, after);
    sqlite3_bind_int64(r->range, 2, upto);
    enum errc rc = OK;
    int step = SQLITE_DONE, num_rows = 0;
    *ret_seen = after;
    while (!rc && num_rows < rows_max && (step = sqlite3_step(r->range)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(r->range, 1);
        *ret_seen = sqlite3_column_int64(r->range, 0);
        if (key && strncmp(key, prefix, prefix_len) != 0)
            continue;
        rc = give_event(r, fn, user, err);
        num_rows++;
    }
    if (!rc && step != SQLITE_ROW && step != SQLITE_DONE)
        rc = db_error(r->db, r->path, "read history", err);
    if (!rc && step == SQLITE_DONE && num_rows < rows_max)
        *ret_seen = upto;
    return rc;
}

enum errc store_log_read(struct store_log_reader *r, const char *prefix, int64_t after,
                         int64_t upto, int rows_max, store_row_fn *fn, void *user,
                         int64_t *ret_seen, struct error *err) {
    if (sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return db_error(r->db, r->path, "read history", err);
    enum errc rc = read_rows(r, prefix, after, upto, rows_max, fn, user, ret_seen, err);
    sqlite3_reset(r->range);
    sqlite3_reset(r->compacted);
    sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
    return rc;
}
