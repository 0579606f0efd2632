/* Where a model reference points on this machine: see the table in model_path.h. Every place that
 * was looked at is kept, because "not found" is only useful with the list. */
#include "core/base/model_path.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/buf.h"

struct search {
    const struct model_path_options *opt;
    const char *reference;
    struct buf looked; /* ", "-separated */
};

static bool is_dir(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* A directory with exactly one *.gguf and no config.json stands for that file. Takes dir. */
static char *settle_dir(char *dir) {
    AUTO_FREE char *config = mem_printf("%s/config.json", dir);
    if (is_file(config))
        return dir;
    DIR *d = opendir(dir);
    if (!d)
        return dir;
    char *only = NULL;
    int found = 0;
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len < 6 || strcmp(e->d_name + len - 5, ".gguf") != 0)
            continue;
        free(only);
        only = mem_printf("%s/%s", dir, e->d_name);
        found++;
    }
    closedir(d);
    if (found == 1) {
        free(dir);
        return only;
    }
    free(only);
    return dir;
}

/* Takes path; gives what it stands for, or NULL after noting that it is not there. */
static char *try_path(struct search *s, char *path) {
    if (is_file(path))
        return path;
    if (is_dir(path))
        return settle_dir(path);
    buf_printf(&s->looked, "%s%s", s->looked.len ? ", " : "", path);
    free(path);
    return NULL;
}

static char *try_models_dir(struct search *s, const char *name) {
    if (!s->opt->models_dir || !*s->opt->models_dir)
        return NULL;
    char *found = try_path(s, mem_printf("%s/%s", s->opt->models_dir, name));
    return found ? found : try_path(s, mem_printf("%s/%s.gguf", s->opt->models_dir, name));
}

/* The hub cache: $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub. Gives the path or NULL. */
static char *hub_dir(const struct model_path_options *opt) {
    const char *env;
    if (opt->hf_cache_dir && *opt->hf_cache_dir)
        return mem_strdup(opt->hf_cache_dir);
    if ((env = getenv("HF_HUB_CACHE")) && *env)
        return mem_strdup(env);
    if ((env = getenv("HF_HOME")) && *env)
        return mem_printf("%s/hub", env);
    if ((env = getenv("HOME")) && *env)
        return mem_printf("%s/.cache/huggingface/hub", env);
    return NULL;
}

/* refs/REVISION holds a commit hash, snapshots/HASH the files. */
static char *read_ref(const char *repo_dir, const char *revision) {
    AUTO_FREE char *path = mem_printf("%s/refs/%s", repo_dir, revision);
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char hash[128] = "";
    size_t n = fread(hash, 1, sizeof(hash) - 1, f);
    fclose(f);
    while (n && (hash[n - 1] == '\n' || hash[n - 1] == ' '))
        hash[--n] = '\0';
    return n && !strchr(hash, '/') ? mem_strdup(hash) : NULL;
}

static char *try_hub(struct search *s, const char *org, const char *name, const char *revision) {
    AUTO_FREE char *hub = hub_dir(s->opt);
    if (!hub)
        return NULL;
    AUTO_FREE char *repo = mem_printf("%s/models--%s--%s", hub, org, name);
    AUTO_FREE char *hash = read_ref(repo, revision ? revision : "main");
    return try_path(
        s, mem_printf("%s/snapshots/%s", repo, hash ? hash : (revision ? revision : "main")));
}

/* ORG/NAME[:REV] or NAME[:REV]. */
static char *find_hf(struct search *s, const char *reference) {
    AUTO_FREE char *name = mem_strdup(reference);
    char *revision = strchr(name, ':');
    if (revision)
        *revision++ = '\0';
    char *found = try_models_dir(s, name);
    char *slash = strchr(name, '/');
    if (found || !slash)
        return found;
    if (strchr(slash + 1, '/'))
        return NULL; /* ORG/NAME has one slash */
    found = try_models_dir(s, slash + 1);
    if (!found) {
        *slash = '\0';
        found = try_hub(s, name, slash + 1, revision);
    }
    return found;
}

static char *find_pvc(struct search *s, const char *rest) {
    char *found = try_models_dir(s, rest);
    const char *slash = strchr(rest, '/');
    return found || !slash ? found : try_models_dir(s, slash + 1);
}

static const char *after_prefix(const char *s, const char *prefix) {
    size_t len = strlen(prefix);
    return strncmp(s, prefix, len) ? NULL : s + len;
}

static bool climbs(const char *reference) {
    for (const char *p = reference; (p = strstr(p, "..")); p += 2) {
        bool starts = p == reference || p[-1] == '/';
        if (starts && (p[2] == '/' || !p[2]))
            return true;
    }
    return false;
}

static enum errc not_found(struct search *s, struct error *err) {
    return err_set(err, ERR_NOT_FOUND, "model \"%s\" is not on this machine; looked at %s",
                   s->reference,
                   s->looked.len ? s->looked.data : "no place: no models folder is set");
}

enum errc model_path_resolve(const char *reference, const struct model_path_options *opt,
                             char **ret_path, struct error *err) {
    struct search s = {.opt = opt, .reference = reference};
    const char *rest;
    char *found = NULL;
    if (!*reference)
        return err_set(err, ERR_INVALID, "model reference is empty");
    if (after_prefix(reference, "embedded://")) {
        *ret_path = mem_strdup(reference);
        return OK;
    }
    if ((rest = after_prefix(reference, "file://"))) {
        found = try_path(&s, mem_strdup(rest));
    } else if (*reference == '/' || *reference == '.') {
        found = try_path(&s, mem_strdup(reference));
    } else if (climbs(reference)) {
        return err_set(err, ERR_INVALID, "model reference \"%s\" holds \"..\"", reference);
    } else if ((rest = after_prefix(reference, "pvc://"))) {
        found = find_pvc(&s, rest);
    } else if ((rest = after_prefix(reference, "hf://"))) {
        found = find_hf(&s, rest);
    } else if (strstr(reference, "://")) {
        return err_set(err, ERR_INVALID,
                       "model reference \"%s\": the scheme is not supported here; one of file://, "
                       "pvc://, hf://, embedded://",
                       reference);
    } else {
        found =
            access(reference, F_OK) ? find_hf(&s, reference) : try_path(&s, mem_strdup(reference));
    }
    enum errc rc = found ? OK : not_found(&s, err);
    if (found)
        *ret_path = found;
    buf_deinit(&s.looked);
    return rc;
}
