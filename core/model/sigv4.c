/* Signature Version 4, as "Authenticating Requests: Using the Authorization Header" of Amazon S3's
 * API reference has it, for requests without a body. Signed are the host, the date, the digest of
 * the (empty) body and the session token; Range is not, so that it may differ. */
#include "core/model/sigv4.h"

#include <stdio.h>
#include <time.h>

#include "core/model/digest.h"

static const char EMPTY[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static void canonical(const struct sigv4_request *r, const char *date, const char *signed_headers,
                      char ret_hex[DIGEST_HEX_BYTES]) {
    AUTO_BUF text = BUF_INIT;
    buf_printf(&text, "GET\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n", r->path,
               r->query, r->host, EMPTY, date);
    if (r->token)
        buf_printf(&text, "x-amz-security-token:%s\n", r->token);
    buf_printf(&text, "\n%s\n%s", signed_headers, EMPTY);
    digest_text(text.data, ret_hex);
}

void sigv4_sign(const struct sigv4_request *r, struct buf *out) {
    static const char *const steps[] = {"s3", "aws4_request"};
    const char *names = r->token ? "host;x-amz-content-sha256;x-amz-date;x-amz-security-token"
                                 : "host;x-amz-content-sha256;x-amz-date";
    time_t now = (time_t)(r->wall_ms / 1000);
    struct tm tm;
    char date[20], day[9], hex[DIGEST_HEX_BYTES];
    gmtime_r(&now, &tm);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm);
    snprintf(day, sizeof(day), "%.8s", date);
    canonical(r, date, names, hex);
    AUTO_FREE char *scope = mem_printf("%s/%s/s3/aws4_request", day, r->region);
    AUTO_FREE char *to_sign = mem_printf("AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hex);
    AUTO_FREE char *secret = mem_printf("AWS4%s", r->secret);
    unsigned char key[DIGEST_SHA256_BYTES];
    digest_hmac(secret, strlen(secret), day, key);
    digest_hmac(key, sizeof(key), r->region, key);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        digest_hmac(key, sizeof(key), steps[i], key);
    digest_hmac(key, sizeof(key), to_sign, key);
    digest_bytes_hex(key, sizeof(key), hex);
    explicit_bzero(secret, strlen(secret));
    buf_printf(out, "x-amz-date: %s\nx-amz-content-sha256: %s\n", date, EMPTY);
    if (r->token)
        buf_printf(out, "x-amz-security-token: %s\n", r->token);
    buf_printf(out,
               "Authorization: AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s\n",
               r->key_id, scope, names, hex);
}
