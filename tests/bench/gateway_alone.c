/* The gateway by itself, in front of one replica that somebody else started.
 *
 *     gateway_alone /PATH/OF/SOCKET ADDRESS:PORT TLS_ADDRESS:PORT CERT_FILE KEY_FILE
 *
 * The traffic table says: InferenceService demo in namespace default, one replica on that socket.
 * Prints where it listens, with TLS on a second line; ends when its standard input does. */
#include <stdio.h>
#include <unistd.h>

#include "api/gateway.h"
#include "core/tls.h"

static void publish(struct traffic *traffic, const char *socket) {
    static const char *const hosts[] = {"demo.default.example.com", NULL};
    static const char *const models[] = {"demo", NULL};
    struct traffic_table *t = traffic_table_create();
    struct traffic_service *s = arena_alloc(t->arena, sizeof(*s));
    struct traffic_revision *revision = arena_alloc(t->arena, sizeof(*revision));
    *revision = (struct traffic_revision){
        .name = "demo-predictor-00001", .percent = 100, .num_replicas = 1};
    revision->replicas = arena_alloc(t->arena, sizeof(*revision->replicas));
    revision->replicas[0] = traffic_replica_create("demo-predictor-00001-bench", socket);
    *s = (struct traffic_service){.ns = "default",
                                  .name = "demo",
                                  .hosts = hosts,
                                  .models = models,
                                  .turn = traffic_turn_create(),
                                  .revisions = revision,
                                  .num_revisions = 1};
    t->services = s;
    t->num_services = 1;
    traffic_publish(traffic, t);
}

int main(int argc, char **argv) {
    if (argc != 6 || *argv[1] != '/') {
        fprintf(stderr, "usage: gateway_alone /PATH/OF/SOCKET ADDRESS:PORT TLS_ADDRESS:PORT "
                        "CERT_FILE KEY_FILE\n");
        return 2;
    }
    AUTO(traffic) traffic = traffic_create();
    AUTO(tls) tls = NULL;
    AUTO(gateway) gateway = NULL;
    struct tls_options secure = {.cert_file = argv[4],
                                 .key_file = argv[5],
                                 .cert_option = "CERT_FILE",
                                 .key_option = "KEY_FILE"};
    struct error err = ERROR_INIT;
    enum errc rc = tls_start(&secure, &tls, &err);
    struct gateway_options opt = {.listen = argv[2],
                                  .tls_listen = argv[3],
                                  .tls = tls,
                                  .traffic = traffic,
                                  .queue_max = 256,
                                  .hold_ms = 60000};
    rc = rc ? rc : gateway_start(&opt, &gateway, &err);
    if (rc) {
        fprintf(stderr, "gateway_alone: %s\n", err.text);
        return 1;
    }
    publish(traffic, argv[1]);
    printf("%s\n%s\n", gateway_address(gateway), gateway_tls_address(gateway));
    fflush(stdout);
    char end;
    while (read(STDIN_FILENO, &end, 1) > 0) {}
    return 0;
}
