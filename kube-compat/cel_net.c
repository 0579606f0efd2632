/* Kubernetes' libraries of IP addresses and of CIDRs: ip('10.0.0.1'), cidr('10.0.0.0/8').
 *
 * An address is its 4 or 16 bytes; a CIDR is an address and, in the value's `num`, the length of
 * its prefix. As there, an IPv6 address that wraps an IPv4 one is refused, because the two would
 * be compared as strangers, and so is a zone. Texts are those of RFC 5952. */
#include "kube-compat/cel_functions.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { ADDRESS_BYTES_MAX = 16, TEXT_BYTES_MAX = 64 };

#define FUNCTION(name) static struct cel_value name(struct cel_run *run, const struct cel_value *a)

static const uint8_t *bytes_of(const struct cel_value *v) {
    return (const uint8_t *)v->text.data;
}

/* Reads an address, for a value of `kind`. */
static bool read_address(struct cel_run *run, enum cel_kind kind, const char *text,
                         struct cel_value *ret) {
    static const uint8_t wrapped[12] = {[10] = 0xff, [11] = 0xff};
    uint8_t bytes[ADDRESS_BYTES_MAX];
    size_t len = inet_pton(AF_INET, text, bytes) == 1 ? 4 : 16;
    if (len == 16 &&
        (inet_pton(AF_INET6, text, bytes) != 1 || !memcmp(bytes, wrapped, sizeof(wrapped))))
        return false;
    char *kept = arena_alloc(run->arena, ADDRESS_BYTES_MAX);
    memcpy(kept, bytes, len);
    *ret = cel_text(kind, kept, len);
    return true;
}

static bool read_ip(struct cel_run *run, const struct cel_value *text, struct cel_value *ret) {
    run->cost -= (int64_t)text->text.len / 10 + 1;
    return text->text.len == strlen(text->text.data) &&
           read_address(run, CEL_IP, text->text.data, ret);
}

static bool read_cidr(struct cel_run *run, const struct cel_value *text, struct cel_value *ret) {
    char address[TEXT_BYTES_MAX];
    const char *slash = strchr(text->text.data, '/');
    run->cost -= (int64_t)text->text.len / 10 + 1;
    if (!slash || text->text.len != strlen(text->text.data) ||
        (size_t)(slash - text->text.data) >= sizeof(address))
        return false;
    memcpy(address, text->text.data, (size_t)(slash - text->text.data));
    address[slash - text->text.data] = '\0';
    size_t digits = strspn(slash + 1, "0123456789");
    if (!digits || digits > 3 || slash[1 + digits] || (slash[1] == '0' && digits > 1) ||
        !read_address(run, CEL_CIDR, address, ret))
        return false;
    ret->num = (uint32_t)strtoul(slash + 1, NULL, 10);
    return ret->num <= 8 * ret->text.len;
}

FUNCTION(ip_of_text) {
    struct cel_value ip;
    return read_ip(run, &a[0], &ip)
               ? ip
               : cel_error(run, "IP Address \"%.100s\" parse error during conversion from string",
                           a[0].text.data);
}

FUNCTION(is_ip) {
    struct cel_value ip;
    return cel_bool(read_ip(run, &a[0], &ip));
}

FUNCTION(cidr_of_text) {
    struct cel_value cidr;
    return read_cidr(run, &a[0], &cidr)
               ? cidr
               : cel_error(run,
                           "network address parse error during conversion from string: \"%.100s\"",
                           a[0].text.data);
}

FUNCTION(is_cidr) {
    struct cel_value cidr;
    return cel_bool(read_cidr(run, &a[0], &cidr));
}

/* The longest run of at least two groups that are zero; *ret_len 0: none. */
static size_t longest_zeros(const uint8_t *bytes, size_t *ret_len) {
    size_t best = 0;
    *ret_len = 1;
    for (size_t i = 0; i < 8; i++) {
        size_t len = 0;
        while (i + len < 8 && !bytes[2 * (i + len)] && !bytes[2 * (i + len) + 1])
            len++;
        if (len > *ret_len)
            best = i, *ret_len = len;
    }
    if (*ret_len < 2)
        *ret_len = 0;
    return best;
}

static void print_address(const struct cel_value *v, char out[TEXT_BYTES_MAX]) {
    const uint8_t *b = bytes_of(v);
    if (v->text.len == 4) {
        snprintf(out, TEXT_BYTES_MAX, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
        return;
    }
    size_t zeros, first = longest_zeros(b, &zeros), len = 0;
    for (size_t i = 0; i < 8; i++) {
        if (zeros && i == first) {
            len += (size_t)snprintf(out + len, TEXT_BYTES_MAX - len, "::");
            i += zeros - 1;
            continue;
        }
        const char *between = i && !(zeros && i == first + zeros) ? ":" : "";
        len += (size_t)snprintf(out + len, TEXT_BYTES_MAX - len, "%s%x", between,
                                (unsigned)(b[2 * i] << 8 | b[2 * i + 1]));
    }
}

FUNCTION(text_of_ip) {
    char text[TEXT_BYTES_MAX];
    print_address(&a[0], text);
    return cel_text(CEL_STRING, arena_strdup(run->arena, text), strlen(text));
}

FUNCTION(text_of_cidr) {
    char text[TEXT_BYTES_MAX];
    print_address(&a[0], text);
    const char *whole = arena_printf(run->arena, "%s/%u", text, a[0].num);
    return cel_text(CEL_STRING, whole, strlen(whole));
}

FUNCTION(is_canonical) {
    struct cel_value ip = ip_of_text(run, a);
    if (ip.kind == CEL_ERROR)
        return ip;
    char text[TEXT_BYTES_MAX];
    print_address(&ip, text);
    return cel_bool(!strcmp(text, a[0].text.data));
}

FUNCTION(family_of) {
    return cel_int(a[0].text.len == 4 ? 4 : 6);
}

static bool all_zero(const uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (bytes[i])
            return false;
    }
    return true;
}

static bool unspecified(const struct cel_value *v) {
    return all_zero(bytes_of(v), v->text.len);
}

static bool loopback(const struct cel_value *v) {
    const uint8_t *b = bytes_of(v);
    return v->text.len == 4 ? b[0] == 127 : all_zero(b, 15) && b[15] == 1;
}

static bool multicast(const struct cel_value *v) {
    const uint8_t *b = bytes_of(v);
    return v->text.len == 4 ? (b[0] & 0xf0) == 0xe0 : b[0] == 0xff;
}

static bool link_local_unicast(const struct cel_value *v) {
    const uint8_t *b = bytes_of(v);
    return v->text.len == 4 ? b[0] == 169 && b[1] == 254 : b[0] == 0xfe && (b[1] & 0xc0) == 0x80;
}

FUNCTION(is_unspecified) {
    return cel_bool(unspecified(&a[0]));
}

FUNCTION(is_loopback) {
    return cel_bool(loopback(&a[0]));
}

FUNCTION(is_link_local_multicast) {
    const uint8_t *b = bytes_of(&a[0]);
    return cel_bool(a[0].text.len == 4 ? b[0] == 224 && !b[1] && !b[2]
                                       : b[0] == 0xff && (b[1] & 0x0f) == 2);
}

FUNCTION(is_link_local_unicast) {
    return cel_bool(link_local_unicast(&a[0]));
}

FUNCTION(is_global_unicast) {
    static const uint8_t broadcast[4] = {255, 255, 255, 255};
    bool everybody = a[0].text.len == 4 && !memcmp(bytes_of(&a[0]), broadcast, 4);
    return cel_bool(!everybody && !unspecified(&a[0]) && !loopback(&a[0]) && !multicast(&a[0]) &&
                    !link_local_unicast(&a[0]));
}

/* Are the first `bits` of both alike? */
static bool share_prefix(const struct cel_value *a, const struct cel_value *b, uint32_t bits) {
    if (a->text.len != b->text.len)
        return false;
    if (memcmp(a->text.data, b->text.data, bits / 8) != 0)
        return false;
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);
    return bits % 8 == 0 || (bytes_of(a)[bits / 8] & mask) == (bytes_of(b)[bits / 8] & mask);
}

FUNCTION(contains_ip) {
    return cel_bool(share_prefix(&a[0], &a[1], a[0].num));
}

FUNCTION(contains_ip_text) {
    struct cel_value both[] = {a[0], ip_of_text(run, &a[1])};
    return both[1].kind == CEL_ERROR ? both[1] : contains_ip(run, both);
}

FUNCTION(contains_cidr) {
    return cel_bool(a[0].num <= a[1].num && share_prefix(&a[0], &a[1], a[0].num));
}

FUNCTION(contains_cidr_text) {
    struct cel_value both[] = {a[0], cidr_of_text(run, &a[1])};
    return both[1].kind == CEL_ERROR ? both[1] : contains_cidr(run, both);
}

FUNCTION(ip_of_cidr) {
    return cel_text(CEL_IP, a[0].text.data, a[0].text.len);
}

FUNCTION(masked_of) {
    struct cel_value masked = a[0];
    uint8_t *bytes = arena_alloc(run->arena, ADDRESS_BYTES_MAX);
    for (size_t i = 0; i < a[0].text.len; i++) {
        uint32_t first = 8 * (uint32_t)i; /* the bit at which this byte begins */
        uint32_t kept = a[0].num <= first ? 0 : a[0].num - first < 8 ? a[0].num - first : 8;
        bytes[i] = bytes_of(&a[0])[i] & (uint8_t)(0xff00 >> kept);
    }
    masked.text.data = (const char *)bytes;
    return masked;
}

FUNCTION(prefix_length_of) {
    return cel_int(a[0].num);
}

bool cel_net_equal(const struct cel_value *a, const struct cel_value *b) {
    return a->kind == b->kind && a->num == b->num && a->text.len == b->text.len &&
           !memcmp(a->text.data, b->text.data, a->text.len);
}

#define OF(kind, name, result, call)                                                               \
    { name, true, 1, {kind}, result, call }
#define FROM(name, kind, result, call)                                                             \
    { name, false, 1, {kind}, result, call }

const struct cel_function cel_net_functions[] = {
    FROM("ip", CEL_STRING, CEL_IP, ip_of_text),
    FROM("isIP", CEL_STRING, CEL_BOOL, is_ip),
    FROM("ip.isCanonical", CEL_STRING, CEL_BOOL, is_canonical),
    FROM("string", CEL_IP, CEL_STRING, text_of_ip),
    OF(CEL_IP, "family", CEL_INT, family_of),
    OF(CEL_IP, "isUnspecified", CEL_BOOL, is_unspecified),
    OF(CEL_IP, "isLoopback", CEL_BOOL, is_loopback),
    OF(CEL_IP, "isLinkLocalMulticast", CEL_BOOL, is_link_local_multicast),
    OF(CEL_IP, "isLinkLocalUnicast", CEL_BOOL, is_link_local_unicast),
    OF(CEL_IP, "isGlobalUnicast", CEL_BOOL, is_global_unicast),
    FROM("cidr", CEL_STRING, CEL_CIDR, cidr_of_text),
    FROM("isCIDR", CEL_STRING, CEL_BOOL, is_cidr),
    FROM("string", CEL_CIDR, CEL_STRING, text_of_cidr),
    {"containsIP", true, 2, {CEL_CIDR, CEL_IP}, CEL_BOOL, contains_ip},
    {"containsIP", true, 2, {CEL_CIDR, CEL_STRING}, CEL_BOOL, contains_ip_text},
    {"containsCIDR", true, 2, {CEL_CIDR, CEL_CIDR}, CEL_BOOL, contains_cidr},
    {"containsCIDR", true, 2, {CEL_CIDR, CEL_STRING}, CEL_BOOL, contains_cidr_text},
    OF(CEL_CIDR, "ip", CEL_IP, ip_of_cidr),
    OF(CEL_CIDR, "masked", CEL_CIDR, masked_of),
    OF(CEL_CIDR, "prefixLength", CEL_INT, prefix_length_of),
};
const size_t cel_num_net_functions = ARRAY_LEN(cel_net_functions);
