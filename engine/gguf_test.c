/* GGUF: what a sound file gives, and that a truncated, lying or random one is refused. The files
 * are built here, in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "engine/cpu/dtype.h"
#include "engine/gguf.h"
#include "engine/gguf_writer.h"

/* One tensor, two keys and an array of each kind. */
static void write_sample(struct gguf_writer *w) {
    gguf_writer_init(w);
    gguf_put_string(w, "general.architecture", "llama");
    gguf_put_u32(w, "llama.block_count", 7);
    gguf_put_f32(w, "llama.rope.freq_base", 10000.0f);
    gguf_put_strings(w, "tokenizer.ggml.tokens", 3, (const char *[]){"a", "", "longer"});
    gguf_put_i32s(w, "tokenizer.ggml.token_type", 2, (const int32_t[]){-5, 6});
    static const float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    gguf_put_tensor(w, "t.weight", DTYPE_F32, 2, (const uint64_t[]){4, 2}, data, sizeof(data));
    gguf_put_tensor(w, "u.weight", DTYPE_F32, 1, (const uint64_t[]){8}, data, sizeof(data));
    gguf_writer_finish(w);
}

static void gives_what_the_file_says(void **state) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(gguf) g = NULL;
    write_sample(&w);
    assert_int_equal(gguf_open_memory("sample", w.file.data, w.file.len, &g, &err), OK);
    struct gguf_string s;
    assert_int_equal(gguf_get_string(g, "general.architecture", &s, &err), OK);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.data, "llama", 5);
    uint32_t v;
    assert_int_equal(gguf_get_u32(g, "llama.block_count", &v, &err), OK);
    assert_int_equal(v, 7);
    float f;
    assert_int_equal(gguf_get_f32(g, "llama.rope.freq_base", &f, &err), OK);
    assert_true(f == 10000.0f);
    struct gguf_array a;
    assert_int_equal(gguf_get_strings(g, "tokenizer.ggml.tokens", &a, &err), OK);
    assert_int_equal(a.len, 3);
    assert_int_equal(gguf_array_string(&a, 1).len, 0);
    assert_memory_equal(gguf_array_string(&a, 2).data, "longer", 6);
    assert_int_equal(gguf_get_ints(g, "tokenizer.ggml.token_type", &a, &err), OK);
    assert_int_equal(gguf_array_int(&a, 0), -5);
    const struct gguf_tensor *t = gguf_find_tensor(g, "t.weight");
    assert_non_null(t);
    assert_int_equal(t->dims[0], 4);
    assert_int_equal(t->bytes, 32);
    assert_int_equal(t->offset % 32, 0);
    assert_true(((const float *)t->data)[7] == 8.0f);
    assert_null(gguf_find_tensor(g, "t.weigh"));
    assert_int_equal(gguf_num_tensors(g), 2);
    assert_ptr_equal(gguf_tensor_at(g, 0), t);
    gguf_writer_deinit(&w);
}

static void a_wrong_type_or_a_missing_key_is_named(void **state) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(gguf) g = NULL;
    write_sample(&w);
    assert_int_equal(gguf_open_memory("sample", w.file.data, w.file.len, &g, &err), OK);
    uint32_t v;
    assert_int_equal(gguf_get_u32(g, "general.architecture", &v, &err), ERR_INVALID);
    assert_string_equal(err.text, "sample: key general.architecture: string, expected an integer");
    assert_int_equal(gguf_get_u32(g, "llama.none", &v, &err), ERR_NOT_FOUND);
    assert_string_equal(err.text, "sample: no key llama.none");
    struct gguf_array a;
    assert_int_equal(gguf_get_ints(g, "tokenizer.ggml.tokens", &a, &err), ERR_INVALID);
    gguf_writer_deinit(&w);
}

/* As a file, with metadata longer than what is read at first; it is cut short meanwhile. */
static void the_head_of_a_file_is_enough(void **state) {
    enum { TEXT_BYTES = 3 << 20 };
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(gguf) g = NULL;
    char path[] = "/tmp/inferd-gguf-XXXXXX";
    static const float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    AUTO_FREE char *text = mem_alloc(TEXT_BYTES + 1);
    memset(text, 'a', TEXT_BYTES);
    gguf_writer_init(&w);
    gguf_put_string(&w, "long", text);
    gguf_put_u32(&w, "number", 7);
    gguf_put_tensor(&w, "t.weight", DTYPE_F32, 2, (const uint64_t[]){4, 2}, data, sizeof(data));
    gguf_writer_finish(&w);
    int fd = mkstemp(path);
    assert_int_equal(write(fd, w.file.data, w.file.len), w.file.len);
    assert_int_equal(gguf_open_head(path, &g, &err), OK);
    assert_int_equal(ftruncate(fd, 10), 0);
    uint32_t v;
    assert_int_equal(gguf_get_u32(g, "number", &v, &err), OK);
    assert_int_equal(v, 7);
    assert_in_range(gguf_head_bytes(g), TEXT_BYTES, w.file.len - sizeof(data));
    const struct gguf_tensor *t = gguf_find_tensor(g, "t.weight");
    assert_int_equal(t->bytes, sizeof(data));
    assert_true(t->data[0] == 0); /* there to be asked for its place, not for its numbers */
    gguf_close(steal(g));
    assert_int_equal(gguf_open_head(path, &g, &err), ERR_MALFORMED);
    assert_non_null(strstr(err.text, path));
    close(fd);
    unlink(path);
    gguf_writer_deinit(&w);
}

/* Every prefix of a sound file is refused, and the sanitizers see no access beyond it. */
static void every_truncation_is_refused(void **state) {
    struct gguf_writer w;
    write_sample(&w);
    for (size_t len = 0; len < w.file.len; len++) {
        struct error err = ERROR_INIT;
        struct gguf *g = NULL;
        void *copy = mem_dup(w.file.data, len); /* its own allocation: a read beyond it is seen */
        assert_int_equal(gguf_open_memory("cut", copy, len, &g, &err), ERR_MALFORMED);
        assert_null(g);
        assert_non_null(strstr(err.text, "cut: "));
        free(copy);
    }
    gguf_writer_deinit(&w);
}

static void changed_bytes_never_crash(void **state) {
    struct gguf_writer w;
    write_sample(&w);
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        char *copy = mem_dup(w.file.data, w.file.len);
        for (int i = 0; i < 1 + round % 4; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 33) % w.file.len] = (char)(seed >> 25);
        }
        struct error err = ERROR_INIT;
        struct gguf *g = NULL;
        if (!gguf_open_memory("changed", copy, w.file.len, &g, &err)) {
            for (uint32_t i = 0; i < gguf_num_tensors(g); i++) {
                const struct gguf_tensor *t = gguf_tensor_at(g, i);
                assert_true(!t->data || (const char *)t->data + t->bytes <= copy + w.file.len);
            }
            gguf_close(g);
        }
        free(copy);
    }
    gguf_writer_deinit(&w);
}

static void random_bytes_are_refused(void **state) {
    unsigned char junk[512];
    uint64_t seed = 7;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; i < sizeof(junk); i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            junk[i] = (unsigned char)(seed >> 40);
        }
        if (round & 1)
            memcpy(junk, "GGUF\3\0\0\0", 8);
        struct error err = ERROR_INIT;
        struct gguf *g = NULL;
        assert_int_equal(gguf_open_memory("junk", junk, sizeof(junk), &g, &err), ERR_MALFORMED);
    }
}

static void check_refused(struct gguf_writer *w, enum errc code, const char *part) {
    struct error err = ERROR_INIT;
    struct gguf *g = NULL;
    gguf_writer_finish(w);
    assert_int_equal(gguf_open_memory("lie", w->file.data, w->file.len, &g, &err), code);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" does not hold \"%s\"", err.text, part);
    gguf_writer_deinit(w);
}

static void lies_are_refused_with_file_tensor_and_offset(void **state) {
    static const float data[64];
    struct gguf_writer w;

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "far", DTYPE_F32, 1, (const uint64_t[]){8}, 1 << 20);
    check_refused(&w, ERR_MALFORMED, "lie: tensor far: 32 bytes at offset ");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "wrap", DTYPE_F32, 1, (const uint64_t[]){8}, UINT64_MAX - 31);
    check_refused(&w, ERR_MALFORMED, "tensor wrap: 32 bytes at offset ");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "askew", DTYPE_F32, 1, (const uint64_t[]){1}, 4);
    check_refused(&w, ERR_MALFORMED, "tensor askew: offset 4 is no multiple of the alignment 32");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "big", DTYPE_F32, 4,
                       (const uint64_t[]){1ull << 32, 1ull << 32, 1ull << 32, 1ull << 32}, 0);
    check_refused(&w, ERR_MALFORMED, "tensor big at offset");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "five", DTYPE_F32, 5, (const uint64_t[]){1, 1, 1, 1, 1}, 0);
    check_refused(&w, ERR_MALFORMED, "5 dimensions, expected 1 to 4");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "none", DTYPE_F32, 2, (const uint64_t[]){4, 0}, 0);
    check_refused(&w, ERR_MALFORMED, "a dimension is 0");

    gguf_writer_init(&w);
    gguf_put_tensor_at(&w, "ragged", DTYPE_Q4_K, 2, (const uint64_t[]){320, 2}, 0);
    check_refused(&w, ERR_MALFORMED, "no multiple of type Q4_K's block of 256");

    gguf_writer_init(&w);
    gguf_put_tensor(&w, "twin", DTYPE_F32, 1, (const uint64_t[]){8}, data, 32);
    gguf_put_tensor(&w, "twin", DTYPE_F32, 1, (const uint64_t[]){8}, data, 32);
    check_refused(&w, ERR_MALFORMED, "tensor twin stands twice");

    gguf_writer_init(&w);
    gguf_put_u32(&w, "general.alignment", 24);
    check_refused(&w, ERR_MALFORMED, "general.alignment: 24, expected a power of two");

    gguf_writer_init(&w);
    w.num_tensors = UINT32_MAX;
    check_refused(&w, ERR_MALFORMED, "4294967295 tensors, more than the bound of 65536");

    gguf_writer_init(&w);
    w.num_pairs = 1000;
    check_refused(&w, ERR_MALFORMED, "1000 metadata pairs, more than the file has room for");
}

static void arrays_that_lie_or_nest_are_refused(void **state) {
    struct gguf_writer w;
    gguf_writer_init(&w);
    gguf_put_array_header(&w, "many", 8, UINT64_MAX / 8 + 2);
    check_refused(&w, ERR_MALFORMED, "more strings than the file has room for");
    gguf_writer_init(&w);
    gguf_put_array_header(&w, "many", 12, UINT64_MAX / 8 + 2);
    check_refused(&w, ERR_MALFORMED, "more elements than the file has room for");
    gguf_writer_init(&w);
    gguf_put_array_header(&w, "nest", 9, 1);
    check_refused(&w, ERR_MALFORMED, "lie: key nest at offset");
    gguf_writer_init(&w);
    gguf_put_array_header(&w, "odd", 13, 1);
    check_refused(&w, ERR_MALFORMED, "unknown element type 13");
}

static void an_unsupported_tensor_type_leaves_the_metadata_readable(void **state) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    AUTO(gguf) g = NULL;
    gguf_writer_init(&w);
    gguf_put_u32(&w, "k", 1);
    gguf_put_tensor_at(&w, "iq", 16, 1, (const uint64_t[]){256}, 0);
    gguf_writer_finish(&w);
    assert_int_equal(gguf_open_memory("iq", w.file.data, w.file.len, &g, &err), OK);
    assert_null(gguf_find_tensor(g, "iq")->data);
    assert_string_equal(dtype_name(gguf_find_tensor(g, "iq")->type), "IQ2_XXS");
    gguf_writer_deinit(&w);
}

static void version_and_byte_order_are_checked(void **state) {
    struct gguf_writer w;
    struct error err = ERROR_INIT;
    struct gguf *g = NULL;
    write_sample(&w);
    w.file.data[4] = 2;
    assert_int_equal(gguf_open_memory("v2", w.file.data, w.file.len, &g, &err), OK);
    gguf_close(g);
    w.file.data[4] = 1;
    assert_int_equal(gguf_open_memory("v1", w.file.data, w.file.len, &g, &err), ERR_INVALID);
    memcpy(w.file.data + 4, "\0\0\0\3", 4);
    assert_int_equal(gguf_open_memory("be", w.file.data, w.file.len, &g, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "big-endian"));
    gguf_writer_deinit(&w);
}

static void files_that_are_none_are_refused(void **state) {
    struct error err = ERROR_INIT;
    struct gguf *g = NULL;
    assert_int_equal(gguf_open("no/such/file.gguf", &g, &err), ERR_NOT_FOUND);
    assert_int_equal(gguf_open("/dev/null", &g, &err), ERR_MALFORMED);
    assert_int_equal(gguf_open("/", &g, &err), ERR_MALFORMED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_the_file_says),
        cmocka_unit_test(a_wrong_type_or_a_missing_key_is_named),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(changed_bytes_never_crash),
        cmocka_unit_test(random_bytes_are_refused),
        cmocka_unit_test(lies_are_refused_with_file_tensor_and_offset),
        cmocka_unit_test(arrays_that_lie_or_nest_are_refused),
        cmocka_unit_test(the_head_of_a_file_is_enough),
        cmocka_unit_test(an_unsupported_tensor_type_leaves_the_metadata_readable),
        cmocka_unit_test(version_and_byte_order_are_checked),
        cmocka_unit_test(files_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
