/* inferd: one program, several commands. This file alone sees every folder; it wires and decides
 * nothing. */
#include <stdio.h>
#include <string.h>

#include "api/engine_command.h"
#include "core/base/mem.h"
#include "engine/bench_command.h"
#include "engine/generate_command.h"
#include "engine/tokenize_command.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static int version_command(int argc, char **argv) {
    printf("inferd %s\n", INFERD_VERSION);
    return 0;
}

static const struct command commands[] = {
    {"engine", engine_command, "serve one model over HTTP (a replica)"},
    {"generate", generate_command, "continue a raw prompt"},
    {"tokenize", tokenize_command, "text on stdin to token ids, or back"},
    {"bench", bench_command, "measure how fast this machine runs a model"},
    {"version", version_command, "print the version"},
};

static void usage(FILE *out) {
    fprintf(out, "usage: inferd COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        fprintf(out, "  %-11s %s\n", commands[i].name, commands[i].help);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "--version"))
        name = "version";
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (!strcmp(commands[i].name, name))
            return commands[i].run(argc - 1, argv + 1);
    }
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (*name && !help)
        fprintf(stderr, "inferd: unknown command \"%s\"\n", name);
    usage(help ? stdout : stderr);
    return help ? 0 : 2;
}
