/* SPDX-License-Identifier: Apache-2.0
 *
 * coordinator/relay.h: clients inside pool processes. Their messages come wrapped in
 * RELAY on their worker's link; to the core each is a link like any other, with a number
 * that no connection has. */
#ifndef FARPOOL_COORDINATOR_RELAY_H
#define FARPOOL_COORDINATOR_RELAY_H

#include "common/base/message.h"

struct relay;

struct relay_config {
    uint32_t clients_max; /* of all workers together */
    /* A message of a relayed client (may be moved out), and its end. */
    void (*on_message)(void *user, uint64_t link, struct message **message);
    void (*on_down)(void *user, uint64_t link, const char *text);
    /* A RELAY for a worker; to be taken over. */
    void (*send)(void *user, uint64_t worker_link, struct message **message);
    void *user;
};

int relay_create(const struct relay_config *config, struct relay **ret_relay);
void relay_destroy(struct relay *relay); /* NULL allowed; tells nobody */

/* Whether a link is one of a relayed client: true of no connection's number. */
bool relay_is_link(uint64_t link);

/* A RELAY that came from a worker. What is wrong with the message inside ends that
 * client, not the worker's link. */
void relay_receive(struct relay *relay, uint64_t worker_link,
                   const struct message *message);

/* The worker's link is gone, and all its clients with it. */
void relay_worker_down(struct relay *relay, uint64_t worker_link, const char *text);

/* To a relayed client; takes the message over. A client that is gone is ignored. */
void relay_send(struct relay *relay, uint64_t link, struct message **message);

/* The core dropped the client: its worker is told, on_down is not called. */
void relay_drop(struct relay *relay, uint64_t link);

#endif
