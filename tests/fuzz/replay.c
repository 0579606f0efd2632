/* Runs a fuzz target on files, or on all files of folders, once each: how the presets without
 * libFuzzer see that what was found once stays away.
 *
 *   fuzz_patch FILE|FOLDER... */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "tests/fuzz/fuzz.h"

static bool replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    AUTO_BUF text = BUF_INIT;
    char chunk[8192];
    for (size_t n; (n = fread(chunk, 1, sizeof(chunk), f)) > 0;)
        buf_append(&text, chunk, n);
    fclose(f);
    AUTO_FREE uint8_t *exact = mem_dup(text.data ? text.data : "", text.len + !text.len);
    LLVMFuzzerTestOneInput(exact, text.len);
    return true;
}

/* Gives the number of inputs; an absent folder has none. */
static size_t replay(const char *path) {
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOTDIR && replay_file(path);
    size_t num = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        AUTO_FREE char *file = mem_printf("%s/%s", path, e->d_name);
        num += replay_file(file);
    }
    closedir(dir);
    return num;
}

int main(int argc, char **argv) {
    size_t num = 0;
    for (int i = 1; i < argc; i++)
        num += replay(argv[i]);
    printf("%zu inputs\n", num);
    return num ? 0 : 1;
}
