/* A bounded queue of messages into one thread. Ownership of a message moves with it.
 *
 * Any thread sends; one thread receives. The mailbox has an eventfd, readable while messages wait,
 * for receivers that sleep in epoll; others block in mailbox_receive(). */
#ifndef CORE_BASE_MAILBOX_H
#define CORE_BASE_MAILBOX_H

#include "core/base/error.h"
#include "core/base/mem.h"

struct mailbox;

struct mailbox *mailbox_create(size_t num_messages_max);
void mailbox_destroy(struct mailbox *m); /* messages left behind are the caller's to drain first */

/* Takes the message when it returns OK. ERR_EXHAUSTED: the mailbox is full; ERR_UNAVAILABLE: it is
 * closed. In both cases the message still belongs to the caller. Never blocks. */
MUST_CHECK enum errc mailbox_send(struct mailbox *m, void *message);

/* Gives the oldest message. Waits up to timeout_ms (-1: for ever, 0: not at all); NULL when none
 * came or the mailbox is closed and empty. */
void *mailbox_receive(struct mailbox *m, int timeout_ms);

void mailbox_close(struct mailbox *m); /* wakes the receiver; later sends are refused */
bool mailbox_closed(struct mailbox *m);
int mailbox_fd(struct mailbox *m); /* borrowed for the mailbox's life */
DEFINE_AUTO(mailbox, mailbox_destroy)

#endif
