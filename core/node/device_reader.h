/* Where the devices of this machine are read from, again and again: NVML, or the file of
 * --fake-devices. Owned by the control thread; nothing here locks. */
#ifndef CORE_NODE_DEVICE_READER_H
#define CORE_NODE_DEVICE_READER_H

#include "core/node/devices.h"

enum {
    DEVICE_READER_FILE_MS = 1000, /* is the file a new one? */
    DEVICE_READER_NVML_MS = 5000,
    DEVICE_READER_SILENT_MS = 30 * 1000, /* does NVML answer by now? */
};

struct device_reader;

struct device_reader_options {
    const char *fake_file;    /* "": NVML */
    const char *sharing_file; /* of NVIDIA's device plugin; "": none */
    const char *library;      /* NULL: NVML's; "": this program itself, for tests */
};

/* Gives a reader that has read once. Without a file and without NVML there are no devices, which is
 * no error: they are `silent`, and NVML is tried again. A bad file is: file, field, value, bound.
 */
MUST_CHECK enum errc device_reader_open(const struct device_reader_options *opt,
                                        struct device_reader **ret_r, struct error *err);
void device_reader_close(struct device_reader *r);
DEFINE_AUTO(device_reader, device_reader_close)

/* Borrowed until the next poll; NULL: r is NULL. */
const struct devices *device_reader_current(const struct device_reader *r);

/* Reads anew; true: what pods can be given has changed. A file that is bad now leaves what was, and
 * is logged once. */
MUST_CHECK bool device_reader_poll(struct device_reader *r);

/* How often to poll, in ms; 0: never, because nothing can change (or r is NULL). */
int64_t device_reader_period_ms(const struct device_reader *r);

#endif
