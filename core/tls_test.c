/* TLS as clients see it: an mbedTLS client here, and the real curl, node and kubectl where present.
 */
#include "core/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

#include "core/base/clock.h"
#include "core/http_client_test.h"
#include "core/pki.h"

static struct {
    char dir[64];
    struct auth *auth;
    struct tls *tls;
    struct http_server *server;
    _Atomic int num_gone;
    struct http_exchange *_Atomic kept;
} env;

static void on_gone(struct http_exchange *x, void *user) {
    env.num_gone++;
    http_stream_end(x);
}

static void handle(struct http_exchange *x, void *user) {
    if (!strcmp(http_path(x), "/whoami")) {
        const struct auth_identity *id = http_identity(x);
        AUTO_BUF b = BUF_INIT;
        buf_printf(&b, "name=%s admin=%d anonymous=%d groups=", id->name, id->admin, id->anonymous);
        for (uint32_t i = 0; i < id->num_groups; i++)
            buf_printf(&b, "%s;", id->groups[i]);
        http_reply_text(x, 200, b.data);
    } else if (!strcmp(http_path(x), "/echo")) {
        size_t len;
        const char *body = http_body(x, &len);
        http_reply(x, 200, "application/octet-stream", body, len);
    } else if (!strcmp(http_path(x), "/stream")) {
        struct http_stream_callbacks cb = {.on_gone = on_gone};
        http_stream_begin(x, 200, "text/event-stream", &cb);
        http_stream_write(x, "data: x\n\n", 9);
        env.kept = x;
    } else {
        http_reply_text(x, 200, "ok");
    }
}

static int set_up(void **state) {
    strcpy(env.dir, "/tmp/inferd-tls-test-XXXXXX");
    assert_non_null(mkdtemp(env.dir));
    struct error err = ERROR_INIT;
    struct auth_options auth = {.data_dir = env.dir};
    if (auth_open(&auth, &env.auth, &err) ||
        tls_start(&(struct tls_options){.auth = env.auth, .ask_clients = true}, &env.tls, &err))
        fail_msg("%s", err.text);
    struct http_server_options opt = {.listen = "127.0.0.1:0",
                                      .body_bytes_max = 32 << 20,
                                      .tls = env.tls,
                                      .auth = env.auth,
                                      .handler = handle};
    if (http_server_start(&opt, &env.server, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int tear_down(void **state) {
    http_server_stop(env.server);
    tls_stop(env.tls);
    auth_close(env.auth);
    AUTO_FREE char *remove = mem_printf("rm -r %s", env.dir);
    return system(remove);
}

/* ---- a TLS client ---- */

struct client {
    mbedtls_net_context net;
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt ca, cert;
    mbedtls_pk_context key;
};

static int parse_key(mbedtls_pk_context *key, const char *pem) {
#if MBEDTLS_VERSION_MAJOR >= 3
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0,
                                pki_random, NULL);
#else
    return mbedtls_pk_parse_key(key, (const unsigned char *)pem, strlen(pem) + 1, NULL, 0);
#endif
}

/* Connects; cert may be NULL. */
static void client_prepare(struct client *c, const char *cert, const char *key) {
    c->net.fd = dial(env.server);
    mbedtls_ssl_init(&c->ssl);
    mbedtls_ssl_config_init(&c->config);
    mbedtls_x509_crt_init(&c->ca);
    mbedtls_x509_crt_init(&c->cert);
    mbedtls_pk_init(&c->key);
    const char *ca = auth_ca_pem(env.auth);
    assert_int_equal(mbedtls_x509_crt_parse(&c->ca, (const unsigned char *)ca, strlen(ca) + 1), 0);
    mbedtls_ssl_config_defaults(&c->config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                MBEDTLS_SSL_PRESET_DEFAULT);
    mbedtls_ssl_conf_rng(&c->config, pki_random, NULL);
    mbedtls_ssl_conf_ca_chain(&c->config, &c->ca, NULL);
    if (cert) {
        assert_int_equal(
            mbedtls_x509_crt_parse(&c->cert, (const unsigned char *)cert, strlen(cert) + 1), 0);
        assert_int_equal(parse_key(&c->key, key), 0);
        mbedtls_ssl_conf_own_cert(&c->config, &c->cert, &c->key);
    }
    assert_int_equal(mbedtls_ssl_setup(&c->ssl, &c->config), 0);
    assert_int_equal(mbedtls_ssl_set_hostname(&c->ssl, "localhost"), 0);
    mbedtls_ssl_set_bio(&c->ssl, &c->net, mbedtls_net_send, mbedtls_net_recv, NULL);
}

/* Connects and shakes hands. Gives mbedTLS' result. */
static int client_open(struct client *c, const char *cert, const char *key) {
    client_prepare(c, cert, key);
    return mbedtls_ssl_handshake(&c->ssl);
}

static void client_close(struct client *c) {
    mbedtls_ssl_free(&c->ssl);
    mbedtls_ssl_config_free(&c->config);
    mbedtls_x509_crt_free(&c->ca);
    mbedtls_x509_crt_free(&c->cert);
    mbedtls_pk_free(&c->key);
    close(c->net.fd);
}

static void client_send(struct client *c, const char *data, size_t len) {
    while (len) {
        int n = mbedtls_ssl_write(&c->ssl, (const unsigned char *)data, len);
        if (n <= 0)
            return; /* the server closed; what it said is what the test looks at */
        data += n;
        len -= (size_t)n;
    }
}

/* False at the end. */
static bool client_receive(struct client *c, struct buf *in) {
    struct pollfd p = {.fd = c->net.fd, .events = POLLIN};
    if (!mbedtls_ssl_get_bytes_avail(&c->ssl) && poll(&p, 1, WAIT_MS) != 1)
        fail_msg("the server says nothing; so far: %s", in->data ? in->data : "");
    unsigned char data[16384];
    int n = mbedtls_ssl_read(&c->ssl, data, sizeof(data));
    if (n > 0)
        buf_append(in, data, (size_t)n);
    return n > 0;
}

static char *client_ask(const char *cert, const char *key, const char *path, const char *headers) {
    struct client c;
    assert_int_equal(client_open(&c, cert, key), 0);
    AUTO_FREE char *request = mem_printf("GET %s HTTP/1.1\r\nHost: localhost\r\n%s"
                                         "Connection: close\r\n\r\n",
                                         path, headers);
    client_send(&c, request, strlen(request));
    AUTO_BUF in = BUF_INIT;
    while (client_receive(&c, &in)) {}
    client_close(&c);
    return buf_steal(&in);
}

/* ---- identities ---- */

static void certificate_of_our_ca_is_an_identity(void **state) {
    const struct pki *p = auth_pki(env.auth);
    AUTO_FREE char *r = client_ask(p->admin_cert, p->admin_key, "/whoami", "");
    assert_non_null(strstr(r, "name=admin admin=1 anonymous=0 "
                              "groups=system:authenticated;system:masters;"));
    AUTO_FREE char *cert = NULL;
    AUTO_FREE char *key = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(pki_issue_client(p, "ann", "team:blue", &cert, &key, &err), OK);
    AUTO_FREE char *ann = client_ask(cert, key, "/whoami", "");
    assert_non_null(strstr(ann, "name=ann admin=0 anonymous=0 "
                                "groups=system:authenticated;team:blue;"));
}

static void certificate_of_another_ca_counts_as_none(void **state) {
    char dir[] = "/tmp/inferd-tls-other-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct error err = ERROR_INIT;
    AUTO(pki) other = NULL;
    assert_int_equal(pki_open(dir, NULL, &other, &err), OK);
    AUTO_FREE char *r = client_ask(other->admin_cert, other->admin_key, "/whoami", "");
    assert_non_null(strstr(r, "name=system:anonymous admin=0 anonymous=1"));
    AUTO_FREE char *none = client_ask(NULL, NULL, "/whoami", "");
    assert_non_null(strstr(none, "name=system:anonymous admin=0 anonymous=1 "
                                 "groups=system:unauthenticated;"));
    AUTO_FREE char *remove = mem_printf("rm -r %s", dir);
    assert_int_equal(system(remove), 0);
}

static void bearer_token_wins_and_a_bad_one_is_refused(void **state) {
    const struct pki *p = auth_pki(env.auth);
    AUTO_FREE char *bad = client_ask(p->admin_cert, p->admin_key, "/whoami",
                                     "Authorization: Bearer nonsense-token\r\n");
    assert_non_null(strstr(bad, "HTTP/1.1 401 "));
    assert_non_null(strstr(bad, "WWW-Authenticate: Bearer"));
    AUTO_FREE char *path = mem_printf("%s/pki/tokens.csv", env.dir);
    FILE *f = fopen(path, "r");
    char token[128] = "";
    assert_int_equal(fscanf(f, "%127[^,]", token), 1);
    fclose(f);
    AUTO_FREE char *header = mem_printf("Authorization: Bearer %s\r\n", token);
    AUTO_FREE char *good = client_ask(NULL, NULL, "/whoami", header);
    assert_non_null(strstr(good, "name=admin admin=1"));
}

/* ---- bytes ---- */

static void send_big(struct client *c) {
    AUTO_BUF body = BUF_INIT;
    for (unsigned i = 0; body.len < 20 << 20; i++)
        buf_printf(&body, "%u,", i * 2654435761u);
    AUTO_FREE char *head = mem_printf("POST /echo HTTP/1.1\r\nHost: localhost\r\n"
                                      "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                                      body.len);
    client_send(c, head, strlen(head));
    client_send(c, body.data, body.len);
}

static void large_bodies_pass_unchanged_both_ways(void **state) {
    struct client c;
    assert_int_equal(client_open(&c, NULL, NULL), 0);
    send_big(&c);
    AUTO_BUF in = BUF_INIT;
    while (client_receive(&c, &in)) {}
    client_close(&c);
    const char *body = in.data ? strstr(in.data, "\r\n\r\n") : "no answer";
    body += 4;
    for (unsigned i = 0; *body; i++) {
        char number[16];
        int n = snprintf(number, sizeof(number), "%u,", i * 2654435761u);
        assert_memory_equal(body, number, (size_t)n);
        body += n;
    }
    assert_true(in.len > 20 << 20);
}

static void oversized_upload_reads_413(void **state) {
    struct client c;
    assert_int_equal(client_open(&c, NULL, NULL), 0);
    static const char head[] = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n";
    client_send(&c, head, sizeof(head) - 1);
    AUTO_FREE char *block = mem_alloc(100000);
    for (int i = 0; i < 100; i++)
        client_send(&c, block, 100000);
    AUTO_BUF in = BUF_INIT;
    while (client_receive(&c, &in)) {}
    client_close(&c);
    assert_int_equal(strncmp(in.data, "HTTP/1.1 413 ", 13), 0);
}

static void stream_notices_that_the_client_left(void **state) {
    static const bool polite[] = {true, false};
    for (size_t i = 0; i < ARRAY_LEN(polite); i++) {
        struct client c;
        assert_int_equal(client_open(&c, NULL, NULL), 0);
        static const char request[] = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n";
        client_send(&c, request, sizeof(request) - 1);
        AUTO_BUF in = BUF_INIT;
        while (!in.data || !strstr(in.data, "data: x"))
            assert_true(client_receive(&c, &in));
        int before = env.num_gone;
        int64_t left_ms = clock_mono_ms();
        if (polite[i])
            mbedtls_ssl_close_notify(&c.ssl);
        client_close(&c);
        while (env.num_gone == before)
            assert_true(clock_mono_ms() - left_ms < 1000);
    }
}

/* Sends byte by byte, so that most reads of the server end within a record. */
static int send_a_byte(void *user, const unsigned char *data, size_t len) {
    return mbedtls_net_send(user, data, 1);
}

static struct buf heap;
static int heap_up(void *user, const unsigned char *data, size_t len) {
    buf_append(&heap, data, len);
    return (int)len;
}

static void records_arrive_in_pieces_and_in_heaps(void **state) {
    static const int aes256[] = {MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 0};
    static const char request[] = "GET /whoami HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for (int heaped = 0; heaped < 2; heaped++) {
        struct client c;
        client_prepare(&c, NULL, NULL);
        mbedtls_ssl_conf_ciphersuites(&c.config, aes256);
        assert_int_equal(mbedtls_ssl_handshake(&c.ssl), 0);
        int on = 1;
        setsockopt(c.net.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        mbedtls_ssl_set_bio(&c.ssl, &c.net, heaped ? heap_up : send_a_byte, mbedtls_net_recv, NULL);
        for (size_t i = 0; i < sizeof(request) - 1; i++)
            client_send(&c, request + i, 1); /* a record each */
        if (heaped)
            assert_int_equal(send(c.net.fd, heap.data, heap.len, MSG_NOSIGNAL), heap.len);
        AUTO_BUF in = BUF_INIT;
        while (client_receive(&c, &in)) {}
        client_close(&c);
        assert_non_null(in.data);
        assert_non_null(strstr(in.data, "anonymous=1"));
    }
    buf_deinit(&heap);
}

/* ---- clients that do harm ---- */

static void a_wrong_record_ends_the_connection(void **state) {
    static const struct {
        char bytes[29];
        size_t len;
    } wrong[] = {
        {"\x17\x03\x03\x00\x18", 29}, /* zeros: the tag is not theirs */
        {"\x17\x03\x03\xff\xff", 5},  /* longer than any */
        {"GET / HTTP/1.1\r\n\r\n", 18},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct client c;
        assert_int_equal(client_open(&c, NULL, NULL), 0);
        assert_int_equal(send(c.net.fd, wrong[i].bytes, wrong[i].len, MSG_NOSIGNAL), wrong[i].len);
        unsigned char data[64];
        assert_int_equal(mbedtls_ssl_read(&c.ssl, data, sizeof(data)),
                         MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
        client_close(&c);
    }
}

static void there_is_no_second_handshake(void **state) {
    struct client c;
    client_prepare(&c, NULL, NULL);
    mbedtls_ssl_conf_renegotiation(&c.config, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    assert_int_equal(mbedtls_ssl_handshake(&c.ssl), 0);
    assert_int_equal(mbedtls_ssl_renegotiate(&c.ssl), MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
    client_close(&c);
}

static void bad_clients_cost_others_nothing(void **state) {
    int garbage = dial(env.server), silent = dial(env.server), cut = dial(env.server),
        half = dial(env.server);
    assert_true(send(garbage, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL) == 18);
    /* A record that announces 512 bytes of ClientHello and brings two. */
    assert_true(send(cut, "\x16\x03\x01\x02\x00\x01\x00", 7, MSG_NOSIGNAL) == 7);
    assert_true(send(half, "\x16\x03", 2, MSG_NOSIGNAL) == 2);
    close(cut);
    AUTO_FREE char *r = client_ask(NULL, NULL, "/", "");
    assert_non_null(strstr(r, "ok"));
    struct pollfd p = {.fd = garbage, .events = POLLIN};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1); /* an alert, or the end: not silence */
    close(garbage);
    close(silent);
    close(half);
}

static void *ask_often(void *user) {
    for (int i = 0; i < 8; i++) {
        AUTO_FREE char *r = client_ask(NULL, NULL, "/whoami", "");
        if (!strstr(r, "anonymous=1"))
            *(bool *)user = false;
        int fd = dial(env.server); /* and an aborted handshake each */
        ssize_t n = send(fd, "\x16\x03\x01", 3, MSG_NOSIGNAL);
        (void)n;
        close(fd);
    }
    return NULL;
}

static void many_clients_at_once(void **state) {
    pthread_t threads[8];
    bool ok[ARRAY_LEN(threads)];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        ok[i] = true;
        pthread_create(&threads[i], NULL, ask_often, &ok[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        pthread_join(threads[i], NULL);
        assert_true(ok[i]);
    }
}

static void stop_closes_handshakes_and_streams(void **state) {
    struct error err = ERROR_INIT;
    struct tls *t = NULL;
    assert_int_equal(tls_start(&(struct tls_options){.auth = env.auth}, &t, &err), OK);
    struct http_server_options opt = {
        .listen = "127.0.0.1:0", .tls = t, .auth = env.auth, .handler = handle};
    struct http_server *was = env.server;
    assert_int_equal(http_server_start(&opt, &env.server, &err), OK);
    int handshake = dial(env.server);
    struct client c;
    assert_int_equal(client_open(&c, NULL, NULL), 0);
    static const char request[] = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n";
    client_send(&c, request, sizeof(request) - 1);
    AUTO_BUF in = BUF_INIT;
    while (!in.data || !strstr(in.data, "data: x"))
        assert_true(client_receive(&c, &in));
    http_server_stop(env.server);
    env.server = was;
    while (client_receive(&c, &in)) { /* the stream ends */
    }
    char byte;
    assert_true(recv(handshake, &byte, 1, 0) <= 0); /* and the handshake too */
    tls_stop(t);
    client_close(&c);
    close(handshake);
}

/* ---- the real clients ---- */

/* Runs a shell command with $URL, $CA and $KUBECONFIG set; gives its output. */
static char *run(const char *command) {
    AUTO_FREE char *url = mem_printf("https://%s", http_server_address(env.server));
    AUTO_FREE char *ca = mem_printf("%s/pki/ca.crt", env.dir);
    AUTO_FREE char *kubeconfig = mem_printf("%s/kubeconfig", env.dir);
    char *text = NULL;
    struct error err = ERROR_INIT;
    assert_int_equal(auth_kubeconfig(env.auth, url, "admin", NULL, &text, &err), OK);
    FILE *f = fopen(kubeconfig, "w");
    fputs(text, f);
    fclose(f);
    free(text);
    setenv("URL", url, 1);
    setenv("CA", ca, 1);
    setenv("KUBECONFIG", kubeconfig, 1);
    setenv("PKI", env.dir, 1);
    FILE *pipe = popen(command, "r");
    AUTO_BUF out = BUF_INIT;
    char data[4096];
    size_t n;
    while ((n = fread(data, 1, sizeof(data), pipe)) > 0)
        buf_append(&out, data, n);
    pclose(pipe);
    return buf_steal(&out);
}

static bool missing(const char *program) {
    AUTO_FREE char *probe = mem_printf("command -v %s >/dev/null", program);
    if (!system(probe))
        return false;
    print_message("skipped: %s is not installed\n", program);
    return true;
}

static void curl_connects(void **state) {
    if (missing("curl"))
        skip();
    AUTO_FREE char *r = run("curl -sS --cacert $CA --cert $PKI/pki/admin.crt "
                            "--key $PKI/pki/admin.key $URL/whoami 2>&1");
    assert_non_null(strstr(r, "name=admin admin=1"));
}

static void node_connects(void **state) {
    if (missing("node"))
        skip();
    AUTO_FREE char *r = run("NODE_EXTRA_CA_CERTS=$CA node -e 'fetch(process.env.URL + \"/whoami\")"
                            ".then(r => r.text()).then(console.log, console.error)' 2>&1");
    assert_non_null(strstr(r, "name=system:anonymous"));
}

static void kubectl_connects(void **state) {
    if (missing("kubectl"))
        skip();
    AUTO_FREE char *r = run("kubectl get --raw /whoami 2>&1");
    assert_non_null(strstr(r, "name=admin admin=1"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificate_of_our_ca_is_an_identity),
        cmocka_unit_test(certificate_of_another_ca_counts_as_none),
        cmocka_unit_test(bearer_token_wins_and_a_bad_one_is_refused),
        cmocka_unit_test(large_bodies_pass_unchanged_both_ways),
        cmocka_unit_test(oversized_upload_reads_413),
        cmocka_unit_test(stream_notices_that_the_client_left),
        cmocka_unit_test(records_arrive_in_pieces_and_in_heaps),
        cmocka_unit_test(a_wrong_record_ends_the_connection),
        cmocka_unit_test(there_is_no_second_handshake),
        cmocka_unit_test(bad_clients_cost_others_nothing),
        cmocka_unit_test(many_clients_at_once),
        cmocka_unit_test(stop_closes_handshakes_and_streams),
        cmocka_unit_test(curl_connects),
        cmocka_unit_test(node_connects),
        cmocka_unit_test(kubectl_connects),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
