/* Tokens in pods.
 *
 * On a cluster a pod finds its token at /var/run/secrets/kubernetes.io/serviceaccount. A host
 * process sees the machine's own files, so the same three files (token, ca.crt, namespace) lie in
 * the pod's folder, and KUBERNETES_SERVICEACCOUNT_DIR says where. Beside them is a kubeconfig that
 * names them, and KUBECONFIG names it: kubectl, and every client that looks there first, need no
 * more. KUBERNETES_SERVICE_HOST and _PORT are what they are in any pod.
 *
 * The token is bound to the pod, ends with it, and is written anew when four fifths of its time are
 * over; clients read the file again. The kubeconfig has the token itself, too, for clients that do
 * not know tokenFile. */
#include "core/control/pod_token.h"

#include <stdio.h>

#include "core/auth_token.h"
#include "core/base/log.h"
#include "core/node/pod_files.h"

enum { HOST_BYTES_MAX = 256 };

static const char KUBECONFIG[] = "apiVersion: v1\n"
                                 "kind: Config\n"
                                 "clusters:\n"
                                 "- name: here\n"
                                 "  cluster: {server: \"https://%s:%s\", certificate-authority: "
                                 "\"%s/ca.crt\"}\n"
                                 "users:\n"
                                 "- name: account\n"
                                 "  user: {tokenFile: \"%s/token\", token: \"%s\"}\n"
                                 "contexts:\n"
                                 "- name: pod\n"
                                 "  context: {cluster: here, user: account, namespace: \"%s\"}\n"
                                 "current-context: pod\n";

/* "HOST:PORT" of a listener to what a process of this machine connects to. */
static const char *split_address(const char *address, char host[HOST_BYTES_MAX]) {
    const char *colon = address ? strrchr(address, ':') : NULL;
    snprintf(host, HOST_BYTES_MAX, "%.*s", colon ? (int)(colon - address) : 0,
             address ? address : "");
    if (!*host || !strcmp(host, "0.0.0.0") || !strcmp(host, "[::]"))
        snprintf(host, HOST_BYTES_MAX, "127.0.0.1");
    return colon ? colon + 1 : "443";
}

static char *folder(const struct world *w, const struct pod_record *r) {
    return mem_printf("%s/%s/serviceaccount", w->config->host_pods_dir, r->uid);
}

/* The pod decides; when it says nothing, the account does. */
static bool is_wanted(const json_t *pod, const json_t *account) {
    bool of_account = object_bool(account, "automountServiceAccountToken", true);
    return object_bool(pod, "spec.automountServiceAccountToken", of_account);
}

static enum errc issue(struct world *w, const json_t *pod, const json_t *account, char **ret_token,
                       struct error *err) {
    AUTO(store_object) node = world_get(w, KIND_NODE, NULL, w->node_name);
    struct auth_token_order order = {.ns = object_namespace(pod),
                                     .account = object_name(account),
                                     .uid = object_uid(account),
                                     .seconds = POD_TOKEN_SECONDS,
                                     .pod = {object_name(pod), object_uid(pod)}};
    if (node)
        order.node = (struct auth_token_bond){w->node_name, object_uid(node->json)};
    return auth_token_issue(auth_service_accounts(w->auth), &order, w->wall_ms, ret_token, err);
}

static enum errc write_files(struct world *w, const struct pod_record *r, const char *token,
                             struct error *err) {
    char host[HOST_BYTES_MAX];
    const char *port = split_address(w->kube_address, host);
    AUTO_FREE char *dir = folder(w, r);
    AUTO_FREE char *kubeconfig = mem_printf(KUBECONFIG, host, port, dir, dir, token, r->ns);
    const struct pod_file files[] = {{"ca.crt", w->ca_pem ? w->ca_pem : ""},
                                     {"namespace", r->ns},
                                     {"token", token},
                                     {"kubeconfig", kubeconfig}};
    return pod_files_write(dir, r->user, files, ARRAY_LEN(files), err);
}

static enum errc give(struct world *w, const json_t *pod, struct pod_record *r, struct error *err) {
    const char *name = object_str(pod, "spec.serviceAccountName");
    AUTO_FREE char *token = NULL;
    name = name && *name ? name : "default";
    AUTO(store_object) account = world_get(w, KIND_SERVICE_ACCOUNT, r->ns, name);
    if (!account)
        return err_set(err, ERR_NOT_FOUND,
                       "failed to fetch token: serviceaccounts \"%s\" not found", name);
    r->has_token = is_wanted(pod, account->json);
    if (!r->has_token)
        return OK;
    if (issue(w, pod, account->json, &token, err) || write_files(w, r, token, err))
        return err->code;
    r->token_renew_ms = w->mono_ms + (int64_t)POD_TOKEN_SECONDS * 1000 * 4 / 5;
    return OK;
}

enum errc pod_token_give(struct world *w, const json_t *pod, struct pod_record *r,
                         struct error *err) {
    if (!w->auth || (r->has_token && w->mono_ms < r->token_renew_ms))
        return OK;
    return give(w, pod, r, err);
}

void pod_token_renew(struct world *w, const json_t *pod, struct pod_record *r) {
    struct error err = ERROR_INIT;
    struct log_quoted q;
    if (!w->auth || !r->has_token)
        return;
    if (w->mono_ms >= r->token_renew_ms && give(w, pod, r, &err)) {
        r->token_renew_ms = w->mono_ms + POD_TOKEN_RETRY_MS;
        log_warn("a pod's token was not renewed, trying again", "pod=%s/%s error=%s", r->ns,
                 r->name, log_quote(&q, err.text));
    }
    if (r->has_token)
        world_enqueue_after(w, KIND_POD, r->ns, r->name, r->token_renew_ms - w->mono_ms);
}

char **pod_token_env(const struct world *w, const struct pod_record *r, char *const *own) {
    char host[HOST_BYTES_MAX];
    const char *port = split_address(w->kube_address, host);
    AUTO_FREE char *dir = folder(w, r);
    size_t num_own = 0, num = 0;
    while (own && own[num_own])
        num_own++;
    char **env = mem_array(num_own + 8, sizeof(env[0]));
    if (r->host) {
        env[num++] = mem_printf("KUBERNETES_SERVICE_HOST=%s", host);
        env[num++] = mem_printf("KUBERNETES_SERVICE_PORT=%s", port);
        env[num++] = mem_printf("KUBERNETES_SERVICE_PORT_HTTPS=%s", port);
        env[num++] = mem_printf("KUBERNETES_PORT=tcp://%s:%s", host, port);
    }
    if (r->has_token) {
        env[num++] = mem_printf("KUBERNETES_SERVICEACCOUNT_DIR=%s", dir);
        env[num++] = mem_printf("KUBECONFIG=%s/kubeconfig", dir);
    }
    for (size_t i = 0; i < num_own; i++)
        env[num++] = mem_strdup(own[i]);
    return env;
}

void pod_token_env_free(char **env) {
    for (char **e = env; e && *e; e++)
        free(*e);
    free(env);
}
