/* Safetensors: tensors of a Hugging Face model, in one file or in several with an index.
 *
 * Opening maps the files and checks everything once: header, names, shapes against sizes, and every
 * offset against the file's end. Immutable after open; any thread reads. */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include "core/base/mem.h"

struct file_map;
struct safetensors;
struct tensor_source;

enum {
    SAFETENSORS_HEADER_BYTES_MAX = 100 << 20, /* as the format's own library has it */
    SAFETENSORS_SHARDS_MAX = 1024,
    SAFETENSORS_TENSORS_MAX = 1 << 20,
};

/* One file. ERR_NOT_FOUND, ERR_IO; ERR_MALFORMED: truncated or lying, the message names file,
 * tensor and offset. */
MUST_CHECK enum errc safetensors_open(const char *path, struct safetensors **ret_st,
                                      struct error *err);
/* A directory: model.safetensors, or the files of model.safetensors.index.json. ERR_NOT_FOUND:
 * neither is there, or a file that the index names is not. */
MUST_CHECK enum errc safetensors_open_dir(const char *dir, struct safetensors **ret_st,
                                          struct error *err);
/* The same for who wants the tensors' places only: their data reads as zeros, and the files may be
 * cut short meanwhile (file_map_open_head). */
MUST_CHECK enum errc safetensors_open_dir_head(const char *dir, struct safetensors **ret_st,
                                               struct error *err);
void safetensors_close(struct safetensors *st);
DEFINE_AUTO(safetensors, safetensors_close)

/* All tensors, by name. Borrowed until close; whoever binds them marks them used. */
struct tensor_source *safetensors_tensors(struct safetensors *st);
/* The files, in the order in which they were opened. */
const struct file_map *safetensors_files(const struct safetensors *st, uint32_t *ret_num);

#endif
