/* SPDX-License-Identifier: Apache-2.0
 *
 * client/list.h: the inside of a farpool_list. */
#ifndef FARPOOL_CLIENT_LIST_H
#define FARPOOL_CLIENT_LIST_H

#include "farpool.h"

/* Borrowed until the list changes. index < farpool_list_count. */
farpool_bytes list_item(const farpool_list *list, uint64_t index);

#endif
