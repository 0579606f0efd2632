#include "core/model/sigv4.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* "Example: GET Bucket (List Objects)" of Amazon S3's API reference. */
static void the_published_example_has_its_signature(void **state) {
    AUTO_BUF out = BUF_INIT;
    const struct sigv4_request r = {.host = "examplebucket.s3.amazonaws.com",
                                    .path = "/",
                                    .query = "max-keys=2&prefix=J",
                                    .region = "us-east-1",
                                    .key_id = "AKIAIOSFODNN7EXAMPLE",
                                    .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                    .wall_ms = 1369353600000};
    sigv4_sign(&r, &out);
    assert_non_null(strstr(out.data, "x-amz-date: 20130524T000000Z\n"));
    assert_non_null(strstr(out.data,
                           "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                           "SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature="
                           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7\n"));
}

static void a_session_token_is_signed_and_sent(void **state) {
    AUTO_BUF out = BUF_INIT;
    const struct sigv4_request r = {.host = "h",
                                    .path = "/",
                                    .query = "",
                                    .region = "r",
                                    .key_id = "k",
                                    .secret = "s",
                                    .token = "session"};
    sigv4_sign(&r, &out);
    assert_non_null(strstr(out.data, "x-amz-security-token: session\n"));
    assert_non_null(strstr(out.data, "x-amz-date;x-amz-security-token,Signature="));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_example_has_its_signature),
        cmocka_unit_test(a_session_token_is_signed_and_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
