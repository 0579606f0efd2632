/* systemd's notification protocol (sd_notify(3)): tells the service manager that the daemon is
 * ready, stopping, or alive. Does nothing when no manager listens. */
#ifndef CORE_NOTIFY_H
#define CORE_NOTIFY_H

void notify_send(const char *state); /* "READY=1", "STOPPING=1", "WATCHDOG=1" */
/* How often "WATCHDOG=1" is expected, halved for safety; -1: no watchdog. */
int notify_watchdog_ms(void);

#endif
