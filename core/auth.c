/* From what a client shows to who it is.
 *
 * Four ways in: a client certificate that the CA signed (checked by the TLS thread; CN is the name,
 * every O a group), a bearer token out of tokens.csv, a ServiceAccount's token (auth_token.c), or
 * nothing, which is system:anonymous. A token that nobody has is refused even beside a good
 * certificate, so that a stale token shows itself.
 *
 * tokens.csv is Kubernetes' static token file, one line a token:
 *   token,user,uid,"group1,group2"
 * All tokens are compared with every request, each in constant time: which line matched, or how far
 * a guess was right, does not show in the time it takes. */
#include "core/auth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/auth_token.h"
#include "core/base/base64.h"
#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/pki.h"

enum {
    TOKENS_MAX = 1000,
    TOKEN_BYTES_MIN = 8, /* shorter ones are guessed, not known */
    TOKEN_BYTES_MAX = 4096,
    TOKEN_FILE_BYTES_MAX = 4 << 20,
    TOKEN_RANDOM_BYTES = 32,
    CSV_FIELDS = 4,
};

struct token {
    char *text;
    size_t len;
    struct auth_identity identity;
};

struct auth {
    struct pki *pki;
    struct auth_token *service_accounts;
    struct token *tokens;
    size_t num_tokens;
};

/* ---- identities ---- */

static bool add_group(struct auth_identity *id, const char *group, size_t len) {
    if (!len || len >= AUTH_NAME_BYTES_MAX || id->num_groups == AUTH_GROUPS_MAX)
        return false;
    memcpy(id->groups[id->num_groups], group, len);
    id->groups[id->num_groups++][len] = '\0';
    if (len == strlen("system:masters") && !memcmp(group, "system:masters", len))
        id->admin = true;
    return true;
}

bool auth_identity_add_group(struct auth_identity *id, const char *group) {
    return add_group(id, group, strlen(group));
}

static void anonymous(struct auth_identity *id) {
    memset(id, 0, sizeof(*id));
    strcpy(id->name, "system:anonymous");
    add_group(id, "system:unauthenticated", strlen("system:unauthenticated"));
    id->anonymous = true;
}

/* ---- tokens.csv ---- */

/* Takes one field off *at; quotes may surround it, a doubled quote stands for one. */
static bool csv_field(const char **at, struct buf *out) {
    const char *p = *at;
    buf_clear(out);
    if (*p == '"') {
        for (p++;; p++) {
            if (!*p)
                return false;
            if (*p == '"' && *++p != '"')
                break;
            buf_putc(out, *p);
        }
    } else {
        size_t len = strcspn(p, ",");
        if (memchr(p, '"', len))
            return false;
        buf_append(out, p, len);
        p += len;
    }
    if (*p && *p != ',')
        return false;
    *at = *p ? p + 1 : p;
    return true;
}

static enum errc parse_token_line(const char *path, unsigned line_no, const char *line,
                                  struct token *ret_token, struct error *err) {
    struct token t = {0};
    AUTO_BUF field = BUF_INIT;
    const char *at = line;
    int n = 0;
    bool ok = true;
    for (; ok && n < CSV_FIELDS && (n == 0 || at[-1] == ','); n++) {
        ok = csv_field(&at, &field);
        const char *text = field.data ? field.data : "";
        if (!ok)
            break;
        if (n == 0) {
            t.text = mem_strdup(text);
            t.len = strlen(text);
            ok = t.len >= TOKEN_BYTES_MIN && t.len <= TOKEN_BYTES_MAX;
        } else if (n == 1) {
            ok = *text && strlen(text) < AUTH_NAME_BYTES_MAX;
            if (ok)
                strcpy(t.identity.name, text);
        } else if (n == 2) {
            ok = strlen(text) < AUTH_UID_BYTES_MAX;
            if (ok)
                strcpy(t.identity.uid, text);
        } else if (n == 3) {
            for (const char *g = text; ok && *g; g += strcspn(g, ","), g += *g == ',')
                ok = add_group(&t.identity, g, strcspn(g, ","));
        }
    }
    ok = ok && n >= 3 && !*at &&
         add_group(&t.identity, "system:authenticated", strlen("system:authenticated"));
    if (!ok) {
        free(t.text);
        return err_set(err, ERR_MALFORMED,
                       "%s:%u: expected token,user,uid,\"group1,group2\" with a token of %d to %d "
                       "bytes, a uid below %d bytes and at most %d groups",
                       path, line_no, TOKEN_BYTES_MIN, TOKEN_BYTES_MAX, AUTH_UID_BYTES_MAX,
                       AUTH_GROUPS_MAX - 1);
    }
    *ret_token = t;
    return OK;
}

static enum errc parse_tokens(struct auth *a, const char *path, char *text, struct error *err) {
    unsigned line_no = 0;
    for (char *line = text; *line;) {
        char *end = line + strcspn(line, "\n");
        char *next = *end ? end + 1 : end;
        *end = '\0';
        if (end > line && end[-1] == '\r')
            end[-1] = '\0';
        line_no++;
        if (*line && *line != '#') {
            if (a->num_tokens == TOKENS_MAX)
                return err_set(err, ERR_TOO_LARGE, "%s:%u: more than %d tokens", path, line_no,
                               TOKENS_MAX);
            struct token t;
            enum errc rc = parse_token_line(path, line_no, line, &t, err);
            if (rc)
                return rc;
            a->tokens = mem_realloc(a->tokens, (a->num_tokens + 1) * sizeof(*a->tokens));
            a->tokens[a->num_tokens++] = t;
        }
        line = next;
    }
    return OK;
}

/* One random admin token, unless the file is there. */
static enum errc make_token_file(const char *path, struct error *err) {
    if (!access(path, F_OK))
        return OK;
    unsigned char noise[TOKEN_RANDOM_BYTES];
    pki_random(NULL, noise, sizeof(noise));
    AUTO_BUF line = BUF_INIT;
    for (size_t i = 0; i < sizeof(noise); i++)
        buf_printf(&line, "%02x", noise[i]);
    buf_puts(&line, ",admin,admin,\"system:masters\"\n");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, line.data, line.len) == (ssize_t)line.len && fsync(fd) == 0;
    if (fd >= 0)
        ok = close(fd) == 0 && ok;
    return ok ? OK : err_errno(err, "write %s", path);
}

static enum errc load_tokens(struct auth *a, const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        enum errc rc = err_errno(err, "open %s", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (st.st_size > TOKEN_FILE_BYTES_MAX) {
        close(fd);
        return err_set(err, ERR_TOO_LARGE, "%s: more than %d bytes", path, TOKEN_FILE_BYTES_MAX);
    }
    AUTO_FREE char *text = mem_alloc((size_t)st.st_size + 1);
    ssize_t n = read(fd, text, (size_t)st.st_size);
    close(fd);
    if (n != st.st_size)
        return err_errno(err, "read %s", path);
    return parse_tokens(a, path, text, err);
}

/* ---- public ---- */

/* Folder and files that a first start makes. */
static enum errc open_pki(struct auth *a, const struct auth_options *opt, const char *dir,
                          const char *tokens, struct error *err) {
    AUTO_FREE char *keys = mem_printf("%s/keys", dir);
    if (opt->existing_only)
        return pki_load(dir, &a->pki, err);
    if (mkdir(opt->data_dir, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make folder %s", opt->data_dir);
    if (pki_open(dir, opt->extra_sans, &a->pki, err))
        return err->code;
    if (mkdir(keys, 0700) < 0 && errno != EEXIST)
        return err_errno(err, "make folder %s", keys);
    return make_token_file(tokens, err);
}

enum errc auth_open(const struct auth_options *opt, struct auth **ret_auth, struct error *err) {
    AUTO(auth) a = mem_alloc(sizeof(*a));
    AUTO_FREE char *dir = mem_printf("%s/pki", opt->data_dir);
    AUTO_FREE char *tokens = mem_printf("%s/tokens.csv", dir);
    AUTO_FREE char *key = mem_printf("%s/keys/sa.key", dir);
    struct auth_token_options service_accounts = {
        .key_path = key,
        .store = opt->store,
        .issuer = opt->issuer ? opt->issuer : AUTH_ISSUER_DEFAULT,
    };
    if (open_pki(a, opt, dir, tokens, err) || load_tokens(a, tokens, err))
        return err->code;
    if (opt->token_file && *opt->token_file && load_tokens(a, opt->token_file, err))
        return err->code;
    /* A command beside a daemon needs certificates only. */
    if (!opt->existing_only && auth_token_open(&service_accounts, &a->service_accounts, err))
        return err->code;
    *ret_auth = steal(a);
    return OK;
}

void auth_close(struct auth *a) {
    if (!a)
        return;
    pki_close(a->pki);
    auth_token_close(a->service_accounts);
    for (size_t i = 0; i < a->num_tokens; i++) {
        explicit_bzero(a->tokens[i].text, a->tokens[i].len);
        free(a->tokens[i].text);
    }
    free(a->tokens);
    free(a);
}

/* Reads all of the presented text and none of the secret's length. */
bool auth_same_secret(const char *secret, size_t secret_len, const char *shown, size_t len) {
    unsigned char differ = secret_len != len;
    for (size_t i = 0; i < len && secret_len; i++)
        differ |= (unsigned char)(shown[i] ^ secret[i % secret_len]);
    return !differ;
}

static const struct token *find_token(const struct auth *a, const char *shown) {
    size_t len = strlen(shown);
    const struct token *found = NULL;
    for (size_t i = 0; i < a->num_tokens && len <= TOKEN_BYTES_MAX; i++)
        if (auth_same_secret(a->tokens[i].text, a->tokens[i].len, shown, len))
            found = &a->tokens[i];
    return found;
}

struct auth_token *auth_service_accounts(const struct auth *a) {
    return a->service_accounts;
}

/* Static tokens have the API server's audience. */
static enum errc static_audiences(const struct auth *a, const json_t *wanted,
                                  json_t **ret_audiences, struct error *err) {
    const char *api = auth_token_issuer(a->service_accounts);
    bool meant = !json_array_size(wanted);
    for (size_t i = 0; i < json_array_size(wanted) && !meant; i++) {
        const char *s = json_string_value(json_array_get(wanted, i));
        meant = s && !strcmp(s, api);
    }
    if (!meant)
        return err_set(err, ERR_UNAUTHENTICATED, "a static token is good for \"%.200s\" only", api);
    *ret_audiences = json_pack("[s]", api);
    return OK;
}

enum errc auth_review(const struct auth *a, const char *token, const json_t *audiences,
                      struct auth_identity *ret_identity, json_t **ret_audiences,
                      struct error *err) {
    const struct token *found = find_token(a, token);
    if (found) {
        enum errc rc = static_audiences(a, audiences, ret_audiences, err);
        if (!rc)
            *ret_identity = found->identity;
        return rc;
    }
    enum errc rc = auth_token_identify(a->service_accounts, token, audiences, clock_wall_ms(),
                                       ret_identity, ret_audiences, err);
    return rc == ERR_MALFORMED
               ? err_set(err, ERR_UNAUTHENTICATED, "the bearer token is not known here")
               : rc;
}

enum errc auth_identify(const struct auth *a, const char *authorization,
                        const struct auth_identity *peer, struct auth_identity *ret_identity,
                        struct error *err) {
    if (!authorization) {
        if (peer)
            *ret_identity = *peer;
        else
            anonymous(ret_identity);
        return OK;
    }
    if (strncasecmp(authorization, "Bearer ", 7) != 0)
        return err_set(err, ERR_UNAUTHENTICATED, "Authorization: only bearer tokens are read here");
    const char *shown = authorization + 7;
    json_t *audiences = NULL;
    enum errc rc = auth_review(a, shown + strspn(shown, " "), NULL, ret_identity, &audiences, err);
    json_decref(audiences);
    return rc;
}

enum errc auth_read_subprotocols(struct arena *arena, const char *subprotocols,
                                 const char **ret_authorization, const char **ret_others,
                                 struct error *err) {
    static const char PREFIX[] = "base64url.bearer.authorization.k8s.io.";
    const char *authorization = NULL;
    AUTO_BUF others = BUF_INIT;
    for (const char *at = subprotocols; *at;) {
        at += strspn(at, ", \t");
        size_t len = strcspn(at, ", \t");
        const char *word = arena_strndup(arena, at, len);
        at += len;
        if (strncmp(word, PREFIX, strlen(PREFIX)) != 0) {
            if (len)
                buf_printf(&others, "%s%s", others.len ? ", " : "", word);
            continue;
        }
        AUTO_BUF token = BUF_INIT;
        if (authorization || !base64url_decode(&token, word + strlen(PREFIX)) || !token.len ||
            strlen(token.data) != token.len)
            return err_set(err, ERR_UNAUTHENTICATED,
                           "a WebSocket's subprotocol with a token: expected one, in base64url");
        authorization = arena_printf(arena, "Bearer %s", token.data);
        explicit_bzero(token.data, token.len);
    }
    if (authorization && !others.len)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "a WebSocket's subprotocol with a token: none beside it to speak");
    *ret_authorization = authorization;
    *ret_others = arena_strdup(arena, others.len ? others.data : "");
    return OK;
}

void auth_certificate_identity(const char *const *organizations, size_t num_organizations,
                               const char *common_name, struct auth_identity *ret_identity) {
    memset(ret_identity, 0, sizeof(*ret_identity));
    if (!*common_name || strlen(common_name) >= AUTH_NAME_BYTES_MAX) {
        anonymous(ret_identity);
        return;
    }
    strcpy(ret_identity->name, common_name);
    add_group(ret_identity, "system:authenticated", strlen("system:authenticated"));
    for (size_t i = 0; i < num_organizations; i++)
        add_group(ret_identity, organizations[i], strlen(organizations[i]));
}

const char *auth_ca_pem(const struct auth *a) {
    return a->pki->ca_cert;
}

const struct pki *auth_pki(const struct auth *a) {
    return a->pki;
}

/* ---- kubeconfig ---- */

enum errc auth_kubeconfig(const struct auth *a, const char *server, const char *user,
                          const char *group, char **ret_yaml, struct error *err) {
    AUTO_FREE char *fresh_cert = NULL;
    AUTO_FREE char *fresh_key = NULL;
    bool admin = !strcmp(user, "admin") && !group;
    if (!admin) {
        enum errc rc = pki_issue_client(a->pki, user, group, &fresh_cert, &fresh_key, err);
        if (rc)
            return rc;
    }
    AUTO_BUF b = BUF_INIT;
    buf_printf(&b,
               "apiVersion: v1\nkind: Config\nclusters:\n- name: inferd\n  cluster:\n"
               "    server: %s\n    certificate-authority-data: ",
               server);
    base64_append(&b, a->pki->ca_cert, strlen(a->pki->ca_cert));
    /* The user's name may start with what YAML reads as something else ("@", "-"). */
    buf_printf(&b,
               "\ncontexts:\n- name: inferd\n  context:\n    cluster: inferd\n    user: \"%s\"\n"
               "    namespace: default\ncurrent-context: inferd\nusers:\n- name: \"%s\"\n  user:\n"
               "    client-certificate-data: ",
               user, user);
    const char *cert = admin ? a->pki->admin_cert : fresh_cert;
    const char *key = admin ? a->pki->admin_key : fresh_key;
    base64_append(&b, cert, strlen(cert));
    buf_puts(&b, "\n    client-key-data: ");
    base64_append(&b, key, strlen(key));
    buf_puts(&b, "\n");
    *ret_yaml = buf_steal(&b);
    return OK;
}
