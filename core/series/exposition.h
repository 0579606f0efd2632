/* Prometheus' text format, as /metrics of a program says it: lines into samples. Pure. */
#ifndef CORE_SERIES_EXPOSITION_H
#define CORE_SERIES_EXPOSITION_H

#include "core/series/labels.h"

enum { EXPOSITION_LINE_BYTES_MAX = 16 << 10 };

/* One sample; all borrowed for the call. */
typedef void exposition_fn(void *user, const struct label *labels, uint32_t num_labels,
                           double value);

/* Calls fn for each sample of the text, its name as the label LABEL_NAME first. Comments and empty
 * lines are passed over, timestamps are read and not used. ERR_MALFORMED: names the line; what came
 * before it was given. */
MUST_CHECK enum errc exposition_read(const char *text, size_t len, exposition_fn *fn, void *user,
                                     struct error *err);

#endif
