/* `inferd tokenize`: text on stdin to token ids on stdout, or back. */
#ifndef ENGINE_TOKENIZE_COMMAND_H
#define ENGINE_TOKENIZE_COMMAND_H

/* Runs the command; argv[0] is "tokenize". Returns the exit status: 0; 1 with one line on stderr
 * when it fails; 2 with the usage on stderr for options that are not understood. */
int tokenize_command(int argc, char **argv);

#endif
