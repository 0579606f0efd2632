/* `inferd model add|ls|rm|verify`: the model store by hand, for machines without a network and for
 * people who want to see. Works on the folder itself, whether a daemon runs or not. */
#ifndef CORE_MODEL_MODEL_COMMAND_H
#define CORE_MODEL_MODEL_COMMAND_H

/* Returns the process's exit code: 0, 1 (it failed) or 2 (usage). */
int model_command(int argc, char **argv);

#endif
