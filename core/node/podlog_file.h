/* What the two halves of pod logs share: podlog.c writes and notifies, podlog_reader.c reads. */
#ifndef CORE_NODE_PODLOG_FILE_H
#define CORE_NODE_PODLOG_FILE_H

#include <stdatomic.h>

#include "core/node/podlog.h"

struct source;

/* A reader's place among the readers of a live source; source is NULL when the source had already
 * ended when the reader was opened. Guarded by the podlog's lock. */
struct podlog_reader_link {
    struct source *source;
    struct podlog_reader *next;
};

struct podlog_reader_link *podlog_reader_link(struct podlog_reader *r);
void podlog_reader_notify(struct podlog_reader *r); /* under the podlog's lock */

const char *podlog_dir(const struct podlog *p);
char *podlog_file_path(const char *dir, const struct podlog_source *src); /* gives */
void podlog_link_reader(struct podlog *p, const char *path, struct podlog_reader *r);
void podlog_unlink_reader(struct podlog *p, struct podlog_reader *r);
void podlog_lock(struct podlog *p);
void podlog_unlock(struct podlog *p);
bool podlog_source_ended(const struct source *s);

#endif
