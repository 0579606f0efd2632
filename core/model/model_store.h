/* Models on disk, by content. One folder, shared by the daemon and by `inferd model`:
 *
 *   lock                     an exclusive flock is held while names change
 *   blobs/SHA256             a file's content, read-only
 *   views/VIEW/PATH...       hard links to blobs under the names that a runtime opens
 *   manifests/ID.json        what a reference stands for; its mtime is when it was last used
 *   holds/ID                 a shared flock on it: the model is in use
 *   incoming/ID/             a model on its way: lock, and per file KEY.part, KEY.map, KEY.SHA256
 *
 * ID names a reference, VIEW a list of files, KEY a file and what is expected of it. A model is
 * there when its manifest is; that is written last. Whatever else a process that was killed leaves
 * behind is of no harm: files on their way are gone on with, the rest is swept.
 *
 * A store is constant once open; any thread and any process may use the same folder. */
#ifndef CORE_MODEL_MODEL_STORE_H
#define CORE_MODEL_MODEL_STORE_H

#include "core/base/mem.h"
#include "core/model/digest.h"

enum {
    MODEL_FILES_MAX = 10000, /* of one model */
    MODEL_MANIFEST_BYTES_MAX = 16 << 20,
    MODEL_INCOMING_SECONDS_MAX = 7 * 24 * 3600, /* then what nobody went on with is swept */
    MODEL_ID_BYTES = 33,
};

struct model_store;

struct model_file {
    char *path;
    uint64_t bytes;
    char sha256[DIGEST_HEX_BYTES];
};

struct model_manifest {
    char *reference;
    char *revision; /* commit or digest that it stood for; NULL: has none */
    char *dir;      /* absolute: the view */
    struct model_file *files;
    size_t num_files;
    uint64_t bytes;
    int64_t added_ms, used_ms; /* wall clock */
};
void model_manifest_destroy(struct model_manifest *m);
DEFINE_AUTO(model_manifest, model_manifest_destroy)

/* Makes the folder with its parents, and sweeps. */
MUST_CHECK enum errc model_store_open(const char *dir, struct model_store **ret_store,
                                      struct error *err);
void model_store_close(struct model_store *s);
DEFINE_AUTO(model_store, model_store_close)
const char *model_store_dir(const struct model_store *s); /* borrowed, absolute */

/* ERR_NOT_FOUND: the model is not there. */
MUST_CHECK enum errc model_store_find(const struct model_store *s, const char *reference,
                                      struct model_manifest **ret_m, struct error *err);

struct model_list {
    struct model_manifest **items; /* by reference */
    size_t num_items;
};
MUST_CHECK enum errc model_store_list(const struct model_store *s, struct model_list *ret_list,
                                      struct error *err);
void model_list_deinit(struct model_list *l);

/* While a hold is open the model stays: nobody removes or evicts it. */
struct model_hold;
MUST_CHECK enum errc model_store_hold(const struct model_store *s, const char *reference,
                                      struct model_hold **ret_hold, struct model_manifest **ret_m,
                                      struct error *err);
void model_hold_close(struct model_hold *h);
DEFINE_AUTO(model_hold, model_hold_close)
bool model_store_in_use(const struct model_store *s, const char *reference);

/* ERR_NOT_FOUND; ERR_CONFLICT: it is in use. */
MUST_CHECK enum errc model_store_remove(const struct model_store *s, const char *reference,
                                        struct error *err);

/* Bytes of all blobs, and of what is on its way. */
uint64_t model_store_bytes(const struct model_store *s);

struct model_room {
    uint64_t bytes;     /* that are to come */
    uint64_t bytes_max; /* budget of the store; 0: the disk's */
    bool may_evict;     /* remove models that are not in use, those unused longest first */
};
/* ERR_EXHAUSTED: budget or disk has no room; says how much of what. Then nothing was evicted. */
MUST_CHECK enum errc model_store_make_room(const struct model_store *s,
                                           const struct model_room *room, struct error *err);

/* Reads every file of a model. Calls tell() with each that is not as it should be; returns how many
 * those are. cancelled (NULL: never) is asked now and then. */
struct model_verify {
    void (*tell)(void *user, const struct model_file *file, const char *what);
    void *user;
};
size_t model_store_verify(const struct model_store *s, const struct model_manifest *m,
                          const struct model_verify *v);

/* A model on its way. One process at a time has it open. */
struct model_incoming;
/* ERR_UNAVAILABLE: another has it. */
MUST_CHECK enum errc model_incoming_open(const struct model_store *s, const char *reference,
                                         struct model_incoming **ret_in, struct error *err);
void model_incoming_close(struct model_incoming *in); /* what is there is gone on with next time */
DEFINE_AUTO(model_incoming, model_incoming_close)
/* Forgets everything that is on its way. */
void model_incoming_discard(struct model_incoming *in);

/* Names a file and what is expected of it: a part that was begun for something else is not found.
 * expected: size, digest, validator; whatever is known. */
void model_incoming_key(const char *path, const char *expected, char ret_key[MODEL_ID_BYTES]);
/* Was the file complete already? Then its digest and size. */
MUST_CHECK bool model_incoming_find(const struct model_incoming *in, const char *key,
                                    char ret_sha256[DIGEST_HEX_BYTES], uint64_t *ret_bytes);
/* Opens KEY.part or KEY.map for reading and writing, made when missing. */
MUST_CHECK enum errc model_incoming_open_file(const struct model_incoming *in, const char *key,
                                              const char *suffix, int *ret_fd, struct error *err);
void model_incoming_drop(const struct model_incoming *in, const char *key); /* part and map */
/* KEY.part is whole and has this digest: it becomes a blob. */
MUST_CHECK enum errc model_incoming_finish(const struct model_incoming *in, const char *key,
                                           const char *sha256, struct error *err);
/* As finish, of a blob that the store has by an earlier model. False: it has not. */
MUST_CHECK bool model_incoming_adopt(const struct model_incoming *in, const char *key,
                                     const char *sha256, uint64_t *ret_bytes);
/* All files are there (finished, or blobs of the store): the model is. ERR_CONFLICT: the reference
 * stands for something else, which is in use. */
MUST_CHECK enum errc model_incoming_commit(struct model_incoming *in,
                                           const struct model_manifest *m, struct error *err);
bool model_store_has_blob(const struct model_store *s, const char *sha256, uint64_t *ret_bytes);

#endif
