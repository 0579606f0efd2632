/* Listening sockets, as the kernel lists them in /proc/net/tcp and tcp6:
 *
 *   sl  local_address  rem_address  st  tx:rx  tr:tm  retrnsmt  uid ...
 *    0: 0100007F:1F90 00000000:0000 0A ...                    70001 ...
 *
 * Addresses are words of 32 bits as they lie in memory, in hexadecimal; the state 0A is LISTEN. Who
 * listens matters: host pods share the network of the machine, and reaching a port of a pod must
 * not mean reaching whatever else listens there. */
#include "core/node/listener.h"

#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

enum { LISTEN_STATE = 0x0a, LINE_BYTES_MAX = 512 };

bool listener_parse(const char *line, uint32_t user, uint16_t port,
                    struct sockaddr_storage *ret_address, socklen_t *ret_len) {
    char address[33];
    unsigned local_port, state, uid;
    if (sscanf(line,
               " %*u: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f:] %x %*[0-9A-Fa-f:] %*[0-9A-Fa-f:] %*x %u",
               address, &local_port, &state, &uid) != 4)
        return false;
    size_t digits = strlen(address);
    if (state != LISTEN_STATE || local_port != port || uid != user || (digits != 8 && digits != 32))
        return false;
    uint32_t words[4] = {0};
    for (size_t i = 0; i < digits / 8; i++) {
        char word[9] = {0};
        memcpy(word, address + 8 * i, 8);
        words[i] = (uint32_t)strtoul(word, NULL, 16);
    }
    *ret_address = (struct sockaddr_storage){0};
    if (digits == 8) {
        struct sockaddr_in *v4 = (void *)ret_address;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        v4->sin_addr.s_addr = words[0] ? words[0] : htonl(INADDR_LOOPBACK);
        *ret_len = sizeof(*v4);
        return true;
    }
    struct sockaddr_in6 *v6 = (void *)ret_address;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    memcpy(&v6->sin6_addr, words, sizeof(words));
    if (!memcmp(&v6->sin6_addr, &in6addr_any, sizeof(in6addr_any)))
        v6->sin6_addr = in6addr_loopback;
    *ret_len = sizeof(*v6);
    return true;
}

enum errc listener_find(uint32_t user, uint16_t port, struct sockaddr_storage *ret_address,
                        socklen_t *ret_len, struct error *err) {
    static const char *const files[] = {"/proc/net/tcp", "/proc/net/tcp6"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char line[LINE_BYTES_MAX];
        bool found = false;
        FILE *f = fopen(files[i], "re");
        while (f && !found && fgets(line, sizeof(line), f))
            found = listener_parse(line, user, port, ret_address, ret_len);
        if (f)
            fclose(f);
        if (found)
            return OK;
    }
    return err_set(err, ERR_NOT_FOUND, "no process of the pod listens on port %u", port);
}

bool listener_port_free(uint16_t port) {
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    /* Connections of an earlier listener that linger do not count. */
    bool is_free = fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
                   !bind(fd, (const struct sockaddr *)&at, sizeof(at));
    if (fd >= 0)
        close(fd);
    return is_free;
}
