/* Server-side printing: objects as the Table that kubectl asks for. Pure: `now` is an argument. */
#ifndef KUBE_COMPAT_TABLE_H
#define KUBE_COMPAT_TABLE_H

#include "kube-compat/kinds.h"

enum { TABLE_CELL_BYTES_MAX = 1024 };

enum table_include { TABLE_INCLUDE_METADATA, TABLE_INCLUDE_NONE, TABLE_INCLUDE_OBJECT };
enum table_include table_include(const char *query); /* "None", "Metadata", "Object"; NULL */

/* Gives a Table of one object or of a list's items, with the metadata of the reply. */
json_t *table_of_reply(const struct kind *kind, const json_t *object, enum table_include include,
                       int64_t now_ms);

/* Gives a one-row Table for a watch event; columnDefinitions is null unless with_columns. */
json_t *table_of_event(const struct kind *kind, const json_t *object, enum table_include include,
                       bool with_columns, int64_t now_ms);

/* Gives the JSON value of a computed cell (a column's x-cell), null when it is unknown. */
json_t *table_cell(const char *cell, const json_t *object, int64_t now_ms);
void table_cell_text(const char *cell, const json_t *object, char out[TABLE_CELL_BYTES_MAX]);

/* "5m3s": kubectl's way to write how long ago; "<unknown>" when the time does not parse. */
void table_age(const char *rfc3339, int64_t now_ms, char out[32]);

#endif
