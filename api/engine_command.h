/* `inferd engine`: one model behind OpenAI's endpoints; what the supervisor runs as a replica, and
 * what a ServingRuntime on a real cluster runs as its container. */
#ifndef API_ENGINE_COMMAND_H
#define API_ENGINE_COMMAND_H

/* Runs until SIGTERM or SIGINT, then refuses new requests, finishes those that run, and gives 0. A
 * second signal ends it at once. 1: it could not start (one line on stderr, and in the file
 * $INFERD_TERMINATION_LOG); 2: bad usage. */
int engine_command(int argc, char **argv);

#endif
