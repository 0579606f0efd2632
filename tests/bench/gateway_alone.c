/* The gateway by itself, in front of one replica that somebody else started.
 *
 *     gateway_alone SOCKET ADDRESS:PORT
 *
 * The traffic table says: InferenceService demo in namespace default, one replica on SOCKET. Prints
 * where it listens; ends when its standard input does. */
#include <stdio.h>
#include <unistd.h>

#include "api/gateway.h"
#include "core/base/log.h"

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
    if (argc != 3) {
        fprintf(stderr, "usage: gateway_alone SOCKET ADDRESS:PORT\n");
        return 2;
    }
    AUTO(traffic) traffic = traffic_create();
    AUTO(gateway) gateway = NULL;
    struct gateway_options opt = {
        .listen = argv[2], .traffic = traffic, .queue_max = 256, .hold_ms = 60000};
    struct error err = ERROR_INIT;
    if (gateway_start(&opt, &gateway, &err)) {
        fprintf(stderr, "gateway_alone: %s\n", err.text);
        return 1;
    }
    publish(traffic, argv[1]);
    printf("%s\n", gateway_address(gateway));
    fflush(stdout);
    char end;
    while (read(STDIN_FILENO, &end, 1) > 0) {}
    return 0;
}
