/* `inferd generate`: one raw prompt through the real engine, as text or as JSON. */
#ifndef ENGINE_GENERATE_COMMAND_H
#define ENGINE_GENERATE_COMMAND_H

/* argv[0] is the subcommand. Returns the exit status: 2 for bad usage, 1 for a failure, both with
 * one line on stderr. */
int generate_command(int argc, char **argv);

#endif
