/* SPDX-License-Identifier: Apache-2.0
 *
 * client/remote_lanes.h: the dialers of a remote transport's lanes. */
#ifndef FARPOOL_CLIENT_REMOTE_LANES_H
#define FARPOOL_CLIENT_REMOTE_LANES_H

#include "client/transport.h"
#include "common/net/net.h"

#include <bsd/sys/queue.h>

#define REMOTE_LANES_MAX 64 /* as many as the core has at a time */

SLIST_HEAD(dial_list, dial);

struct remote_lanes {
    struct dial_list fresh, dials;
};

/* CLIENT_DIAL and CLIENT_HANG_UP. */
void remote_lanes_dial(struct remote_lanes *lanes, const struct client_effect *effect);
void remote_lanes_hang_up(struct remote_lanes *lanes, uint64_t lane);
void remote_lanes_send(struct remote_lanes *lanes, uint64_t lane,
                       struct message **message);
/* beside: the coordinator's, whose key is used. */
bool remote_lanes_move(struct remote_lanes *lanes, struct net *beside,
                       const struct transport_turn *turn);
/* At most REMOTE_LANES_MAX * NET_WAIT_FDS descriptors. */
int remote_lanes_wait_begin(struct remote_lanes *lanes, struct pollfd *fds,
                            int *timeout_ms);
void remote_lanes_wait_end(struct remote_lanes *lanes);
uint64_t remote_lanes_deadline(const struct remote_lanes *lanes);
void remote_lanes_close(struct remote_lanes *lanes);

#endif
