/* Folders that are to go: out of the way at once, removed by a thread in its own time. */
#ifndef CORE_NODE_TRASH_H
#define CORE_NODE_TRASH_H

#include "core/base/mem.h"

enum {
    TRASH_DEPTH_MAX = 256, /* folders below the one that goes; what lies deeper stays behind */
    TRASH_STOP_MS = 2000,  /* how long trash_destroy() waits; the rest goes at the next start */
};

struct trash;

/* dir: where things lie until they are gone, made when the first comes, best in the folder that
 * they come from. What an earlier daemon left in it is removed. */
struct trash *trash_create(const char *dir);
void trash_destroy(struct trash *t);
DEFINE_AUTO(trash, trash_destroy)

/* Moves the folder away. One that cannot be moved is removed before this returns. */
void trash_throw(struct trash *t, const char *path);

/* Removes a folder with all that is in it, at once; follows no link. give_up (may be NULL) is asked
 * now and then. False: it gave up, or something would not go. */
bool trash_remove_tree(const char *path, bool (*give_up)(const void *user), const void *user);

#endif
