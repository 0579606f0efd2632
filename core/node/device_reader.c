/* Devices change while the daemon runs: a GPU gets an uncorrectable error, is reset, falls off its
 * bus; who tests this edits a file. So they are polled, by a stat() of the file or a few questions
 * to NVML (microseconds each where the driver is kept loaded, see nvidia-persistenced).
 *
 * A driver that is being loaded, or replaced, does not answer for a while, also when the daemon
 * starts. That is not the same as a machine without GPUs: until it answers, nobody knows.
 *
 * Only what pods can be given counts as a change; use, power and temperature move all the time. */
#include "core/node/device_reader.h"

#include <sys/stat.h>

#include "core/base/log.h"
#include "core/node/devices_file.h"
#include "core/node/nvml.h"

struct device_reader {
    char *fake_file;      /* NULL: NVML */
    char *library;        /* NVML's; NULL: this program */
    struct nvml *nvml;    /* NULL: there is none */
    struct stat seen;     /* of the file, when it was read last */
    struct devices *now;  /* never NULL */
    struct devices *next; /* to read into */
    bool told;            /* that NVML does not answer */
};

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Tries to reach NVML and to read into d. False: it does not answer. */
static bool reach_nvml(struct device_reader *r, struct devices *d) {
    struct error why = ERROR_INIT;
    struct log_quoted q;
    d->silent = nvml_open(r->library, &r->nvml, &why) || nvml_read(r->nvml, d, &why);
    if (d->silent) {
        if (!r->told)
            log_info("no GPUs", "reason=%s", log_quote(&q, why.text));
        r->told = true;
        nvml_close(steal(r->nvml));
        return false;
    }
    r->told = false;
    devices_settle(d);
    log_info("GPUs found", "num=%u driver=%s", d->num_gpus, d->driver_version);
    return true;
}

static enum errc open_nvml(struct device_reader *r, const struct device_reader_options *opt,
                           struct error *err) {
    const char *library = opt->library ? opt->library : NVML_LIBRARY;
    r->library = *library ? mem_strdup(library) : NULL;
    if (*opt->sharing_file && devices_file_read_sharing(opt->sharing_file, r->now, err))
        return err->code;
    if (!reach_nvml(r, r->now))
        r->now->num_gpus = 0;
    return OK;
}

static enum errc open_file(struct device_reader *r, const struct device_reader_options *opt,
                           struct error *err) {
    AUTO(devices) read = NULL;
    r->fake_file = mem_strdup(opt->fake_file);
    if (stat(r->fake_file, &r->seen))
        return err_errno(err, "fakeDevices: open %s", r->fake_file);
    if (devices_file_read(r->fake_file, &read, err))
        return err_wrap(err, "fakeDevices");
    if (*opt->sharing_file) {
        if (devices_file_read_sharing(opt->sharing_file, read, err))
            return err->code;
        devices_settle(read);
    }
    devices_destroy(r->now);
    r->now = steal(read);
    log_warn("devices are faked: what runs on them runs on the CPU", "num_gpus=%u file=%s",
             r->now->num_gpus, r->fake_file);
    return OK;
}

enum errc device_reader_open(const struct device_reader_options *opt, struct device_reader **ret_r,
                             struct error *err) {
    AUTO(device_reader) r = mem_alloc(sizeof(*r));
    r->now = mem_alloc(sizeof(*r->now));
    if (*opt->fake_file ? open_file(r, opt, err) : open_nvml(r, opt, err))
        return err->code;
    *ret_r = steal(r);
    return OK;
}

void device_reader_close(struct device_reader *r) {
    if (!r)
        return;
    nvml_close(r->nvml);
    devices_destroy(r->now);
    devices_destroy(r->next);
    free(r->fake_file);
    free(r->library);
    free(r);
}

const struct devices *device_reader_current(const struct device_reader *r) {
    return r ? r->now : NULL;
}

int64_t device_reader_period_ms(const struct device_reader *r) {
    if (!r)
        return 0;
    return r->fake_file ? DEVICE_READER_FILE_MS
           : r->nvml    ? DEVICE_READER_NVML_MS
                        : DEVICE_READER_SILENT_MS;
}

/* Pods can be given the same devices. */
static bool same_devices(const struct devices *a, const struct devices *b) {
    if (a->silent != b->silent || a->num != b->num || a->num_gpus != b->num_gpus ||
        a->num_cores != b->num_cores || a->memory_bytes != b->memory_bytes)
        return false;
    for (uint32_t i = 0; i < a->num; i++) {
        const struct device *x = &a->list[i], *y = &b->list[i];
        if (strcmp(x->uuid, y->uuid) != 0 || strcmp(x->resource, y->resource) != 0 ||
            x->sound != y->sound || x->shares != y->shares || x->memory_bytes != y->memory_bytes)
            return false;
    }
    for (uint32_t i = 0; i < a->num_gpus; i++) {
        if (strcmp(a->gpus[i].fault, b->gpus[i].fault) != 0 ||
            strcmp(a->gpus[i].product, b->gpus[i].product) != 0)
            return false;
    }
    return true;
}

/* False: as before, or it cannot be read. */
static bool read_file(struct device_reader *r) {
    struct stat now;
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (stat(r->fake_file, &now) || same_file(&now, &r->seen))
        return false;
    r->seen = now; /* whatever it says, it is read once */
    AUTO(devices) read = NULL;
    if (devices_file_read(r->fake_file, &read, &err)) {
        log_warn("fake devices stay as they were", "error=%s", log_quote(&q, err.text));
        return false;
    }
    /* Rules of another file than this stay. */
    if (!read->num_sharing) {
        memcpy(read->sharing, r->now->sharing, sizeof(read->sharing));
        read->num_sharing = r->now->num_sharing;
        devices_settle(read);
    }
    devices_destroy(r->next);
    r->next = steal(read);
    return true;
}

static bool read_nvml(struct device_reader *r) {
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (!r->next)
        r->next = mem_alloc(sizeof(*r->next));
    *r->next = *r->now;
    if (!r->nvml)
        return reach_nvml(r, r->next);
    if (nvml_read(r->nvml, r->next, &err)) {
        if (!r->told)
            log_warn("devices stay as they were", "error=%s", log_quote(&q, err.text));
        r->told = true;
        return false;
    }
    r->told = false;
    devices_settle(r->next);
    return true;
}

bool device_reader_poll(struct device_reader *r) {
    if (!(r->fake_file ? read_file(r) : read_nvml(r)))
        return false;
    bool changed = !same_devices(r->now, r->next);
    struct devices *was = r->now;
    r->now = r->next;
    r->next = was;
    return changed;
}
