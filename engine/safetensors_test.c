/* Safetensors: truncated, lying and random files are refused by file, tensor and offset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "engine/safetensors.h"
#include "engine/tensor_source.h"

static char path[] = "/tmp/inferd-safetensors-XXXXXX";

static int make_path(void **state) {
    int fd = mkstemp(path);
    return fd < 0 || close(fd);
}

static int remove_path(void **state) {
    return unlink(path);
}

static enum errc open_bytes(const void *data, size_t len, struct safetensors **ret_st,
                            struct error *err) {
    FILE *file = fopen(path, "wb");
    assert_true(file && fwrite(data, 1, len, file) == len && !fclose(file));
    return safetensors_open(path, ret_st, err);
}

static void write_file(struct buf *b, const char *header, size_t data_bytes) {
    uint64_t len = strlen(header);
    buf_clear(b);
    buf_append(b, &len, 8);
    buf_puts(b, header);
    for (size_t i = 0; i < data_bytes; i++)
        buf_putc(b, (char)i);
}

static const char sample[] = "{\"a\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": "
                             "[0, 24]}, \"b\": {\"dtype\": \"I64\", \"shape\": [], "
                             "\"data_offsets\": [24, 32]}, \"__metadata__\": {\"k\": \"v\"}}  ";

static void gives_what_the_file_says(void **state) {
    AUTO_BUF b = BUF_INIT;
    struct error err = ERROR_INIT;
    AUTO(safetensors) st = NULL;
    write_file(&b, sample, 32);
    assert_int_equal(open_bytes(b.data, b.len, &st, &err), OK);
    const struct tensor_source *s = safetensors_tensors(st);
    assert_int_equal(s->num_tensors, 2);
    const struct source_tensor *a = tensor_source_find(s, "a"), *i = tensor_source_find(s, "b");
    assert_int_equal(a->dims[0], 3);
    assert_int_equal(a->dims[1], 2);
    assert_int_equal(a->bytes, 24);
    assert_int_equal(a->offset, 8 + strlen(sample));
    assert_int_equal(a->data[23], 23);
    assert_null(i->data); /* a type that nothing here multiplies with */
    assert_string_equal(i->type_name, "I64");
}

static void every_truncation_is_refused(void **state) {
    AUTO_BUF b = BUF_INIT;
    write_file(&b, sample, 32);
    for (size_t len = 0; len < b.len; len++) {
        struct error err = ERROR_INIT;
        struct safetensors *st = NULL;
        assert_int_equal(open_bytes(b.data, len, &st, &err), ERR_MALFORMED);
        assert_non_null(strstr(err.text, path));
    }
}

static void lies_are_refused(void **state) {
    static const struct {
        const char *header, *part;
    } cases[] = {
        {"[]", "offset 8: header: expected an object"},
        {"{\"a\": 1}", "tensor a: dtype: expected a short string"},
        {"{\"a\": {\"dtype\": \"F32\"}}", "tensor a: shape: expected an array"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1,1,1,1,1], \"data_offsets\": [0, 4]}}",
         "shape: expected an array of up to 4"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [0], \"data_offsets\": [0, 0]}}",
         "shape: expected sizes of 1 or more"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4294967296, 4294967296], \"data_offsets\": "
         "[0, 0]}}",
         "shape: more than 2^60 elements"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}",
         "data_offsets: expected two sizes"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [-4, 0]}}",
         "data_offsets: expected two sizes"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [8, 4]}}",
         "tensor a: bytes 8 to 4"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [9], \"data_offsets\": [0, 36]}}",
         "tensor a: bytes 0 to 36 behind offset 70 reach beyond the file's end at 102"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [4, 8]}}",
         "tensor a at offset 73: 4 bytes, but its shape takes 8"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}, \"a\": {}}",
         "duplicate"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_BUF b = BUF_INIT;
        struct error err = ERROR_INIT;
        struct safetensors *st = NULL;
        write_file(&b, cases[i].header, 32);
        assert_int_equal(open_bytes(b.data, b.len, &st, &err), ERR_MALFORMED);
        if (!strstr(err.text, cases[i].part))
            fail_msg("\"%s\" does not hold \"%s\"", err.text, cases[i].part);
    }
}

static void changed_bytes_never_crash(void **state) {
    AUTO_BUF b = BUF_INIT;
    uint64_t seed = 3;
    write_file(&b, sample, 32);
    for (int round = 0; round < 2000; round++) {
        struct error err = ERROR_INIT;
        struct safetensors *st = NULL;
        char *copy = mem_dup(b.data, b.len);
        for (int i = 0; i < 1 + round % 3; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 33) % b.len] = (char)(seed >> 25);
        }
        if (!open_bytes(copy, b.len, &st, &err))
            safetensors_close(st);
        free(copy);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_the_file_says),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(changed_bytes_never_crash),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
