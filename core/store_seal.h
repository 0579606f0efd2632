/* Brings the rows of a database to what a seal wants. Used when the log is opened. */
#ifndef CORE_STORE_SEAL_H
#define CORE_STORE_SEAL_H

#include <sqlite3.h>

#include "core/seal.h"

/* Rewrites every row, current or history, that the seal covers and that is in the clear, and every
 * sealed one that is not under its first key. A seal without keys gets one first, unless a row is
 * sealed. Then the database says `schema_version`. What was in the clear is gone from the file and
 * its WAL. ERR_INVALID: a row does not open: nothing is lost; ERR_IO. */
MUST_CHECK enum errc store_seal_rows(sqlite3 *db, struct seal *seal, int schema_version,
                                     struct error *err);

#endif
