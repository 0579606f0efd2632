/* `inferd model`.
 *
 * The command works on the store's folder, under the store's own locks, so it needs no daemon and
 * takes no notice of one: a pod that waits for a model finds what was added within seconds. It runs
 * as the user that the daemon runs as, because the data folder is nobody else's. It never evicts:
 * which models services need when no daemon runs, only the daemon knows. */
#include "core/model/model_command.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/config.h"
#include "core/model/model_download.h"
#include "core/model/model_import.h"
#include "core/model/model_ref.h"
#include "core/model/model_store_files.h"

enum { STALL_SECONDS_MAX = 3600 };

struct options {
    const char *verb, *reference, *from, *data_dir, *config, *stall;
    long stall_seconds; /* 0: as the daemon has it */
    bool json;
};

struct session {
    struct options opt;
    struct config config;
    struct model_store *store;
};

static void usage(FILE *out) {
    fprintf(out,
            "usage: inferd model add REFERENCE [--from PATH]   download a model, or copy it\n"
            "       inferd model ls                            what is in the store\n"
            "       inferd model rm REFERENCE                  remove a model\n"
            "       inferd model verify [REFERENCE]            read and check every file\n\n"
            "REFERENCE is what a storageUri says (hf://ORG/NAME, https://..., s3://...), or a "
            "path:\n"
            "\"add /mnt/usb/x.gguf\" is \"add file:///mnt/usb/x.gguf --from "
            "/mnt/usb/x.gguf\".\n\n"
            "  --from PATH       take the model from this file or folder instead\n"
            "  --stall-seconds N give a connection up that is slower than 1 KiB/s for so long "
            "(30)\n"
            "  --data-dir DIR    the daemon's dataDir\n"
            "  --config FILE     the daemon's configuration\n"
            "  -o json           print JSON\n\n"
            "Downloads heed HF_TOKEN, HF_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
            "AWS_REGION,\nAWS_ENDPOINT_URL, REGISTRY_AUTH and the usual proxy variables of the "
            "environment.\n");
}

/* False: usage. */
static bool read_options(int argc, char **argv, struct options *o) {
    for (int i = 1; i < argc; i++) {
        const char **to = !strcmp(argv[i], "--from")            ? &o->from
                          : !strcmp(argv[i], "--stall-seconds") ? &o->stall
                          : !strcmp(argv[i], "--data-dir")      ? &o->data_dir
                          : !strcmp(argv[i], "--config")        ? &o->config
                                                                : NULL;
        if (to || !strcmp(argv[i], "-o")) {
            if (!argv[i + 1])
                return false;
            if (to)
                *to = argv[++i];
            else if (!strcmp(argv[++i], "json"))
                o->json = true;
            else
                return false;
        } else if (argv[i][0] == '-') {
            return false;
        } else if (!o->verb) {
            o->verb = argv[i];
        } else if (!o->reference) {
            o->reference = argv[i];
        } else {
            return false;
        }
    }
    char *rest = NULL;
    o->stall_seconds = o->stall ? strtol(o->stall, &rest, 10) : 0;
    bool bad_stall =
        o->stall && (*rest || o->stall_seconds < 1 || o->stall_seconds > STALL_SECONDS_MAX);
    return o->verb && !bad_stall;
}

static void print_json(json_t *o) {
    AUTO_FREE char *text = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    puts(text);
}

static json_t *describe(const struct session *s, const struct model_manifest *m) {
    char added[CLOCK_RFC3339_BYTES], used[CLOCK_RFC3339_BYTES];
    json_t *o = model_manifest_json(m);
    json_object_del(o, "addedMs");
    json_object_del(o, "view");
    json_object_set_new(o, "path", json_string(m->dir));
    json_object_set_new(o, "bytes", json_integer((json_int_t)m->bytes));
    json_object_set_new(o, "added", json_string(clock_rfc3339(m->added_ms, added)));
    json_object_set_new(o, "used", json_string(clock_rfc3339(m->used_ms, used)));
    json_object_set_new(o, "inUse", json_boolean(model_store_in_use(s->store, m->reference)));
    return o;
}

/* "4.7 GiB" */
static const char *size_text(uint64_t bytes, char out[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
        value /= 1024;
    snprintf(out, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

static enum errc list(struct session *s, struct error *err) {
    struct model_list l = {0};
    char size[32], budget[32];
    if (model_store_list(s->store, &l, err))
        return err->code;
    uint64_t bytes = model_store_bytes(s->store), max = (uint64_t)s->config.model_store_bytes_max;
    if (s->opt.json) {
        json_t *items = json_array();
        for (size_t i = 0; i < l.num_items; i++)
            json_array_append_new(items, describe(s, l.items[i]));
        print_json(json_pack("{s:s, s:I, s:I, s:o}", "store", model_store_dir(s->store), "bytes",
                             (json_int_t)bytes, "bytesMax", (json_int_t)max, "items", items));
        model_list_deinit(&l);
        return OK;
    }
    int width = 9;
    for (size_t i = 0; i < l.num_items; i++) {
        int len = (int)strlen(l.items[i]->reference);
        width = len > width ? len : width;
    }
    printf("%-*s  %6s  %10s  %-20s  %s\n", width, "REFERENCE", "FILES", "SIZE", "LAST USED",
           "IN USE");
    for (size_t i = 0; i < l.num_items; i++) {
        const struct model_manifest *m = l.items[i];
        char used[CLOCK_RFC3339_BYTES];
        printf("%-*s  %6zu  %10s  %-20s  %s\n", width, m->reference, m->num_files,
               size_text(m->bytes, size), clock_rfc3339(m->used_ms, used),
               model_store_in_use(s->store, m->reference) ? "yes" : "no");
    }
    printf("%s: %s%s%s\n", model_store_dir(s->store), size_text(bytes, size), max ? " of " : "",
           max ? size_text(max, budget) : "");
    model_list_deinit(&l);
    return OK;
}

/* Gives what a path is called in the store; NULL: it is not one. */
static enum errc path_reference(const char *path, char **ret_reference, struct error *err) {
    char *full = realpath(path, NULL);
    if (!full)
        return err_errno(err, "%s", path);
    *ret_reference = mem_printf("file://%s", full);
    free(full);
    return OK;
}

/* What of the environment downloads heed. Gives. */
static json_t *environment(void) {
    json_t *env = json_object();
    for (char **e = environ; e && *e; e++) {
        const char *equals = strchr(*e, '=');
        AUTO_FREE char *name = equals ? mem_strndup(*e, (size_t)(equals - *e)) : NULL;
        json_t *value = name ? json_string(equals + 1) : NULL;
        if (value)
            json_object_set_new(env, name, value);
    }
    return env;
}

static struct model_progress progress;

/* The download ends in order, and is gone on with by the next one. */
static void on_signal(int signal) {
    atomic_store(&progress.cancelled, true);
}

/* Shows on a terminal how far it is, until the download is over. */
static void *show_progress(void *user) {
    const _Atomic bool *over = user;
    char done[32], total[32];
    while (!atomic_load(over)) {
        struct timespec second = {.tv_sec = 1};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL);
        if (atomic_load(&progress.bytes_total))
            fprintf(stderr, "\r\033[K%s of %s", size_text(atomic_load(&progress.bytes_done), done),
                    size_text(atomic_load(&progress.bytes_total), total));
    }
    fprintf(stderr, "\r\033[K");
    return NULL;
}

static enum errc fetch(const struct session *s, const char *reference,
                       struct model_manifest **ret_m, struct error *err) {
    _Atomic bool over = false;
    pthread_t shower;
    json_t *env = environment();
    const struct model_download d = {.store = s->store,
                                     .reference = reference,
                                     .env = env,
                                     .bytes_max = (uint64_t)s->config.model_store_bytes_max,
                                     .slow_seconds = s->opt.stall_seconds,
                                     .progress = &progress};
    const struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    bool shown = isatty(STDERR_FILENO) && !pthread_create(&shower, NULL, show_progress, &over);
    enum errc rc = model_download(&d, ret_m, err);
    atomic_store(&over, true);
    if (shown)
        pthread_join(shower, NULL);
    json_decref(env);
    return rc;
}

static enum errc add(struct session *s, struct error *err) {
    AUTO_FREE char *reference = mem_strdup(s->opt.reference);
    AUTO_FREE char *from = mem_strdup(s->opt.from);
    AUTO(model_manifest) m = NULL;
    struct model_ref ref = {0};
    char size[32];
    bool plain = !strstr(reference, "://");
    if (plain && (*reference == '/' || *reference == '.' || !from)) {
        if (!from)
            from = mem_strdup(reference);
        free(steal(reference));
        if (path_reference(s->opt.reference, &reference, err))
            return err->code;
    } else if (plain) { /* ORG/NAME, as vLLM has it */
        free(reference);
        reference = mem_printf("hf://%s", s->opt.reference);
    }
    if (model_ref_parse(reference, &ref, err))
        return err->code == ERR_NOT_FOUND ? (err->code = ERR_INVALID) : err->code;
    if (!from && ref.scheme == MODEL_FILE)
        from = mem_strdup(ref.path);
    model_ref_deinit(&ref);
    if (from ? model_import(s->store, reference, from, (uint64_t)s->config.model_store_bytes_max,
                            &m, err)
             : fetch(s, reference, &m, err))
        return err->code;
    if (s->opt.json)
        print_json(describe(s, m));
    else
        printf("added %s: %zu file%s, %s\n", m->reference, m->num_files,
               m->num_files == 1 ? "" : "s", size_text(m->bytes, size));
    return OK;
}

/* Gives the reference under which the store has it: as it was typed, or the path's. */
static char *known_reference(const struct session *s) {
    AUTO(model_manifest) m = NULL;
    struct error none = ERROR_INIT;
    char *other = NULL;
    if (model_store_find(s->store, s->opt.reference, &m, &none) &&
        !strstr(s->opt.reference, "://") && path_reference(s->opt.reference, &other, &none))
        other = mem_printf("hf://%s", s->opt.reference);
    return other ? other : mem_strdup(s->opt.reference);
}

static enum errc remove_model(struct session *s, struct error *err) {
    AUTO_FREE char *reference = known_reference(s);
    if (model_store_remove(s->store, reference, err))
        return err->code;
    if (s->opt.json)
        print_json(json_pack("{s:s}", "removed", reference));
    else
        printf("removed %s\n", reference);
    return OK;
}

struct findings {
    const struct options *opt;
    const struct model_manifest *model;
    json_t *bad;
};

static void tell_file(void *user, const struct model_file *file, const char *what) {
    struct findings *f = user;
    if (f->opt->json)
        json_array_append_new(f->bad, json_pack("{s:s, s:s, s:s}", "reference", f->model->reference,
                                                "file", file->path, "problem", what));
    else
        printf("%s: %s: %s\n", f->model->reference, file->path, what);
}

static enum errc verify(struct session *s, struct error *err) {
    struct model_list l = {0};
    AUTO_FREE char *reference = s->opt.reference ? known_reference(s) : NULL;
    struct findings found = {.opt = &s->opt, .bad = json_array()};
    const struct model_verify v = {tell_file, &found};
    size_t num_models = 0, num_bad = 0;
    enum errc rc = model_store_list(s->store, &l, err);
    for (size_t i = 0; i < l.num_items && !rc; i++) {
        if (reference && strcmp(l.items[i]->reference, reference) != 0)
            continue;
        found.model = l.items[i];
        num_models++;
        num_bad += model_store_verify(s->store, l.items[i], &v);
    }
    if (!rc)
        model_list_deinit(&l);
    if (!rc && reference && !num_models)
        rc = err_set(err, ERR_NOT_FOUND, "model \"%.512s\" is not in the model store %s", reference,
                     model_store_dir(s->store));
    if (!rc && s->opt.json)
        print_json(
            json_pack("{s:I, s:O}", "models", (json_int_t)num_models, "problems", found.bad));
    else if (!rc)
        printf("%zu model%s, %zu bad file%s\n", num_models, num_models == 1 ? "" : "s", num_bad,
               num_bad == 1 ? "" : "s");
    json_decref(found.bad);
    if (!rc && num_bad)
        rc = err_set(err, ERR_INVALID,
                     "remove what is bad with \"inferd model rm\" and add it "
                     "again");
    return rc;
}

static const struct {
    const char *name;
    enum errc (*run)(struct session *s, struct error *err);
    bool wants_reference;
} verbs[] = {
    {"add", add, true}, {"ls", list, false}, {"rm", remove_model, true}, {"verify", verify, false}};

static enum errc open_store(struct session *s, struct error *err) {
    if (config_load(s->opt.config, &s->config, err) ||
        (s->opt.data_dir && config_set(&s->config, "data-dir", s->opt.data_dir, err)))
        return err->code;
    AUTO_FREE char *dir = *s->config.model_store_dir
                              ? mem_strdup(s->config.model_store_dir)
                              : mem_printf("%s/model-store", s->config.data_dir);
    return model_store_open(dir, &s->store, err);
}

int model_command(int argc, char **argv) {
    struct session s = {0};
    struct error err = ERROR_INIT;
    bool help = argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"));
    enum errc (*run)(struct session *, struct error *) = NULL;
    if (!help && read_options(argc, argv, &s.opt)) {
        for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
            if (!strcmp(verbs[i].name, s.opt.verb) &&
                (s.opt.reference || !verbs[i].wants_reference))
                run = verbs[i].run;
        }
    }
    if (!run) {
        usage(help ? stdout : stderr);
        return help ? 0 : 2;
    }
    enum errc rc = open_store(&s, &err);
    if (!rc)
        rc = run(&s, &err);
    model_store_close(s.store);
    config_deinit(&s.config);
    if (rc)
        fprintf(stderr, "inferd model %s: %s\n", s.opt.verb, err.text);
    return rc ? 1 : 0;
}
