/* `inferd bench`: how fast this machine runs a model, measured through the real engine. */
#ifndef ENGINE_BENCH_COMMAND_H
#define ENGINE_BENCH_COMMAND_H

/* argv[0] is the subcommand. Returns the exit status: 2 for bad usage, 1 for a failure, both with
 * one line on stderr. */
int bench_command(int argc, char **argv);

#endif
