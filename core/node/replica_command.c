/* From a container of a Pod to the program that runs here.
 *
 * Three spellings reach the same `inferd engine`: vLLM's images (entry point `vllm serve` or
 * python -m vllm.entrypoints.openai.api_server), KServe's huggingfaceserver, and inferd's own. What
 * the options mean is core/base/engine_args.h's business; here the model is found on this machine,
 * the container's own words are put in order, and the socket is added. */
#include "core/node/replica_command.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/engine_args.h"
#include "core/node/spawn.h"
#include "core/object.h"

enum { WARNINGS_MAX = 16, ARGS_MAX = 512, ENV_MAX = 256, EXPANDED_BYTES_MAX = 64 * 1024 };

static const char MOUNT[] = "/mnt/models"; /* where KServe's storage initializer puts a model */

/* Image names without registry and tag. */
static const char *const engine_images[] = {"vllm/vllm-openai", "vllm-openai",
                                            "kserve/huggingfaceserver", "huggingfaceserver",
                                            "inferd/engine"};

bool replica_command_image_known(const char *image) {
    char name[256];
    const char *at = strchr(image, '@'); /* digest */
    size_t len = at ? (size_t)(at - image) : strlen(image);
    if (len >= sizeof(name))
        return false;
    memcpy(name, image, len);
    name[len] = '\0';
    char *slash = strrchr(name, '/');
    char *colon = strchr(slash ? slash : name, ':');
    if (colon)
        *colon = '\0';
    size_t n = strlen(name);
    for (size_t i = 0; i < ARRAY_LEN(engine_images); i++) {
        size_t k = strlen(engine_images[i]);
        if (n >= k && !strcmp(name + n - k, engine_images[i]) && (n == k || name[n - k - 1] == '/'))
            return true;
    }
    return false;
}

static const char *env_value(const json_t *container, const char *name, size_t len) {
    size_t i;
    json_t *e;
    json_array_foreach (json_object_get(container, "env"), i, e) {
        const char *key = object_str(e, "name");
        if (key && strlen(key) == len && !memcmp(key, name, len))
            return object_str(e, "value");
    }
    return NULL;
}

/* Kubernetes' rule: $(NAME) is the value of an env entry, $$ is $, anything unknown stays. */
static char *expand(const json_t *container, const char *text) {
    struct buf out = BUF_INIT;
    buf_reserve(&out, 1);
    while (*text && out.len < EXPANDED_BYTES_MAX) {
        const char *close = text[0] == '$' && text[1] == '(' ? strchr(text, ')') : NULL;
        const char *value =
            close ? env_value(container, text + 2, (size_t)(close - text - 2)) : NULL;
        if (text[0] == '$' && text[1] == '$') {
            buf_putc(&out, '$');
            text += 2;
        } else if (value) {
            buf_puts(&out, value);
            text = close + 1;
        } else {
            buf_putc(&out, *text++);
        }
    }
    return buf_steal(&out);
}

struct words {
    char *list[ARGS_MAX + 1]; /* NULL-terminated */
    size_t len;
};

static void words_deinit(struct words *w) {
    for (size_t i = 0; i < w->len; i++)
        free(w->list[i]);
    w->len = 0;
}

/* path: the container's. */
static enum errc add_words(struct words *w, const json_t *container, const char *path,
                           const char *field, struct error *err) {
    size_t i;
    json_t *item;
    json_array_foreach (json_object_get(container, field), i, item) {
        if (w->len == ARGS_MAX)
            return err_field(err, ERR_INVALID, path, "%s.args: more than %d words", path, ARGS_MAX);
        if (!json_is_string(item))
            return err_field(err, ERR_INVALID, path, "%s.%s[%zu]: not a string", path, field, i);
        w->list[w->len++] = expand(container, json_string_value(item));
    }
    w->list[w->len] = NULL;
    return OK;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* Number of leading words that are the entry point: "vllm serve", "python3 -m package". */
static enum errc entry_point(const struct words *w, size_t *ret_len, struct error *err) {
    size_t n = 0;
    if (n < w->len && (ends_with(w->list[n], "/sh") || ends_with(w->list[n], "bash") ||
                       !strcmp(w->list[n], "sh")))
        return err_field(err, ERR_INVALID, "spec.containers[0].command",
                         "spec.containers[0].command: a shell line (\"%.80s ...\") is not run "
                         "here; write the server's options as args",
                         w->list[n]);
    if (n < w->len && strstr(w->list[n], "python")) {
        n++;
        if (n + 1 < w->len && !strcmp(w->list[n], "-m"))
            n += 2;
    } else if (n < w->len && (ends_with(w->list[n], "vllm") || ends_with(w->list[n], "inferd"))) {
        n++;
        if (n < w->len && (!strcmp(w->list[n], "serve") || !strcmp(w->list[n], "engine")))
            n++;
    }
    *ret_len = n;
    return OK;
}

/* What the option says, with /mnt/models read as the storageUri. Gives text, or NULL. */
static char *model_reference(const json_t *pod, const json_t *container,
                             const struct engine_args *a) {
    const char *uri = object_annotation(pod, REPLICA_SOURCE_URI_ANNOTATION);
    size_t n = strlen(MOUNT);
    if (a->model && uri && !strncmp(a->model, MOUNT, n) && (!a->model[n] || a->model[n] == '/'))
        return mem_printf("%s%s", uri, ends_with(uri, a->model + n) ? "" : a->model + n);
    if (a->model)
        return mem_strdup(a->model);
    if (uri)
        return mem_strdup(uri);
    const char *id = env_value(container, "MODEL_ID", 8);
    return mem_strdup(id);
}

static char **copy_env(const json_t *container) {
    const json_t *list = json_object_get(container, "env");
    size_t n = 0;
    char **env = mem_array(ENV_MAX + 1, sizeof(*env));
    size_t i;
    json_t *e;
    json_array_foreach (list, i, e) {
        const char *name = object_str(e, "name"), *value = object_str(e, "value");
        if (!name || !value || n == ENV_MAX)
            continue; /* valueFrom is resolved by the pod controller before */
        AUTO_FREE char *expanded = expand(container, value);
        env[n++] = mem_printf("%s=%s", name, expanded);
    }
    return env;
}

/* "qwen/Qwen3-0.6B" is called that; a path by its last part without .gguf; embedded://x is "x". */
static char *default_name(const char *reference) {
    const char *scheme = strstr(reference, "://");
    bool hub = !strncmp(reference, "hf://", 5);
    if (hub || (!scheme && *reference != '/' && *reference != '.'))
        return mem_strdup(hub ? reference + 5 : reference);
    size_t len = strlen(reference);
    while (len && reference[len - 1] == '/')
        len--;
    size_t start = len;
    while (start && reference[start - 1] != '/')
        start--;
    AUTO_FREE char *last = mem_strndup(reference + start, len - start);
    if (ends_with(last, ".gguf"))
        last[strlen(last) - 5] = '\0';
    return mem_strdup(last);
}

static void name_model(struct replica_command *c, const struct engine_args *a) {
    c->served_names = mem_array(ENGINE_ARGS_NAMES_MAX + 1, sizeof(char *));
    for (uint32_t i = 0; i < a->num_served_names; i++)
        c->served_names[i] = mem_strdup(a->served_names[i]);
    if (!a->num_served_names)
        c->served_names[0] = default_name(c->model_reference);
}

static void copy_warnings(struct replica_command *c, const struct engine_args *a) {
    c->warnings = mem_array(a->num_warnings + 1, sizeof(char *));
    for (uint32_t i = 0; i < a->num_warnings; i++)
        c->warnings[i] = mem_strdup(a->warnings[i]);
}

/* inferd engine, the container's own words, then what this machine decides (the last one wins). */
static void make_argv(struct replica_command *c, const struct words *w, size_t skip,
                      const char *program, uint64_t kv_cache_bytes) {
    size_t n = 0, max = w->len + 18 + ENGINE_ARGS_NAMES_MAX;
    c->argv = mem_array(max, sizeof(char *));
    c->argv[n++] = mem_strdup(program);
    c->argv[n++] = mem_strdup("engine");
    for (size_t i = skip; i < w->len; i++)
        c->argv[n++] = mem_strdup(w->list[i]);
    c->argv[n++] = mem_strdup("--model");
    c->argv[n++] = mem_strdup(c->model_path);
    c->argv[n++] = mem_strdup("--uds");
    c->argv[n++] = mem_strdup(c->uds_path);
    if (kv_cache_bytes) {
        c->argv[n++] = mem_strdup("--kv-cache-memory-bytes");
        c->argv[n++] = mem_printf("%" PRIu64, kv_cache_bytes);
    }
    bool named = false;
    for (size_t i = 0; i < w->len; i++)
        named = named || strstr(w->list[i], "--served") == w->list[i] ||
                strstr(w->list[i], "--model-name") == w->list[i] ||
                strstr(w->list[i], "--model_name") == w->list[i];
    if (!named) {
        c->argv[n++] = mem_strdup("--served-model-name");
        c->argv[n++] = mem_strdup(c->served_names[0]);
    }
}

static enum errc set_socket(struct replica_command *c, const json_t *pod, const char *run_dir,
                            struct error *err) {
    c->uds_path = mem_printf("%s/%s.sock", run_dir, object_uid(pod));
    if (strlen(c->uds_path) < sizeof(((struct sockaddr_un *)0)->sun_path))
        return OK;
    return err_set(err, ERR_INVALID,
                   "socket path %s is longer than %zu bytes: use a shorter dataDir", c->uds_path,
                   sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
}

static enum errc find_model(struct replica_command *c, const struct replica_command_options *opt,
                            struct error *err) {
    AUTO_FREE char *found = NULL;
    enum errc rc = model_path_resolve(c->model_reference, &opt->models, &c->model_path, err);
    if (!rc || !opt->find_model)
        return rc;
    rc = opt->find_model(opt->user, c->model_reference, &found, err);
    return rc ? rc : model_path_resolve(found, &opt->models, &c->model_path, err);
}

static enum errc build(const json_t *pod, const json_t *container, const struct words *w,
                       size_t skip, const struct replica_command_options *opt,
                       struct replica_command *c, struct error *err) {
    struct engine_args args;
    enum errc rc = engine_args_parse((const char *const *)w->list + skip, &args, err);
    if (rc)
        rc = err_wrap(err, "spec.containers[0].args");
    if (!rc) {
        c->model_reference = model_reference(pod, container, &args);
        if (!c->model_reference)
            rc = err_field(err, ERR_INVALID, "spec.containers[0].args",
                           "spec.containers[0].args: no --model and no storageUri");
    }
    if (!rc)
        rc = find_model(c, opt, err);
    if (!rc)
        rc = set_socket(c, pod, opt->run_dir, err);
    if (!rc) {
        name_model(c, &args);
        copy_warnings(c, &args);
        make_argv(c, w, skip, opt->program, args.kv_cache_bytes ? 0 : opt->kv_cache_bytes);
        c->env = copy_env(container);
    }
    engine_args_deinit(&args);
    return rc;
}

/* What a host pod asks for and does not get. */
static void host_warnings(const json_t *pod, const json_t *container, const char *path,
                          struct replica_command *c) {
    size_t n = 0;
    const char *name;
    json_t *limit;
    c->warnings = mem_array(WARNINGS_MAX + 3, sizeof(char *));
    json_object_foreach (object_at(container, "resources.limits"), name, limit) {
        if (!strcmp(name, "memory") || n + 1 == WARNINGS_MAX)
            continue;
        c->warnings[n++] = mem_printf("%s.resources.limits.%s: not enforced here", path, name);
    }
    if (json_array_size(json_object_get(container, "volumeMounts")))
        c->warnings[n++] = mem_printf("%s.volumeMounts: nothing is mounted", path);
    if (object_at(container, "securityContext.runAsGroup") ||
        object_at(pod, "spec.securityContext.runAsGroup"))
        c->warnings[n++] = mem_strdup("runAsGroup: the group has the number of the user");
}

static enum errc build_host(const json_t *pod, const json_t *container, const char *path,
                            struct words *w, struct replica_command *c, struct error *err) {
    const char *work_dir = object_str(container, "workingDir");
    /* Args alone are the command, as of any image without an entry point. */
    if (!w->len)
        return err_field(err, ERR_INVALID, path,
                         "%s.command: Required value: the image \"host\" has no command of its "
                         "own",
                         path);
    if (work_dir && *work_dir != '/')
        return err_field(err, ERR_INVALID, path, "%s.workingDir: \"%s\" is not an absolute path",
                         path, work_dir);
    c->host = true;
    c->argv = mem_array(w->len + 1, sizeof(char *));
    const char *programs = env_value(container, "PATH", 4);
    c->argv[0] = spawn_find_program(programs ? programs : SPAWN_USER_PATH, w->list[0]);
    for (size_t i = 1; i < w->len; i++)
        c->argv[i] = mem_strdup(w->list[i]);
    c->work_dir = mem_strdup(work_dir);
    c->env = copy_env(container);
    host_warnings(pod, container, path, c);
    return OK;
}

bool replica_command_is_host(const json_t *pod) {
    const char *image = object_str(pod, "spec.containers.0.image");
    return image && !strcmp(image, REPLICA_HOST_IMAGE);
}

enum errc replica_command_make(const json_t *pod, const struct replica_command_options *opt,
                               struct replica_command *ret_cmd, struct error *err) {
    const json_t *container =
        opt->container ? opt->container : json_array_get(object_at(pod, "spec.containers"), 0);
    const char *path = opt->path ? opt->path : "spec.containers[0]";
    const char *image = object_str(container, "image");
    bool host = replica_command_is_host(pod);
    if (host && (!image || strcmp(image, REPLICA_HOST_IMAGE) != 0))
        return err_field(err, ERR_INVALID, path,
                         "%s.image: \"%s\" cannot be run beside containers with the image \"host\"",
                         path, image ? image : "");
    if (!host && (!image || !replica_command_image_known(image)))
        return err_field(err, ERR_INVALID, "spec.containers[0].image",
                         "spec.containers[0].image: no runtime on this machine serves \"%s\"; "
                         "known are " REPLICA_KNOWN_IMAGES,
                         image ? image : "");
    struct words *w = mem_alloc(sizeof(*w));
    struct replica_command c = {0};
    size_t skip = 0;
    enum errc rc = add_words(w, container, path, "command", err);
    if (!rc)
        rc = add_words(w, container, path, "args", err);
    if (!rc && host)
        rc = build_host(pod, container, path, w, &c, err);
    if (!rc && !host)
        rc = entry_point(w, &skip, err);
    if (!rc && !host)
        rc = build(pod, container, w, skip, opt, &c, err);
    words_deinit(w);
    free(w);
    if (rc)
        replica_command_deinit(&c);
    else
        *ret_cmd = c;
    return rc;
}

static void free_list(char **list) {
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

void replica_command_deinit(struct replica_command *c) {
    free_list(c->argv);
    free_list(c->env);
    free_list(c->served_names);
    free_list(c->warnings);
    free(c->model_reference);
    free(c->model_path);
    free(c->uds_path);
    free(c->work_dir);
    *c = (struct replica_command){0};
}
