/* SPDX-License-Identifier: Apache-2.0
 *
 * shared.h: how a shared input is cut into pieces, which all three cores and both ends of
 * its way must know alike. */
#ifndef FARPOOL_BASE_SHARED_H
#define FARPOOL_BASE_SHARED_H

#include "common/base/message.h"

#define SHARED_BYTES_MAX (UINT64_C(1) * SHARED_PIECE_BYTES * SHARED_PIECES_MAX)
#define SHARED_PULLS_MAX 16 /* under way at one worker of one shared input */

/* Of a size in [1, SHARED_BYTES_MAX]. */
static inline uint32_t shared_pieces(uint64_t size)
{
    return (uint32_t)((size + SHARED_PIECE_BYTES - 1) / SHARED_PIECE_BYTES);
}

/* All pieces are alike but the last. */
static inline uint32_t shared_piece_bytes(uint64_t size, uint32_t piece)
{
    const uint64_t left = size - (uint64_t)piece * SHARED_PIECE_BYTES;
    return left < SHARED_PIECE_BYTES ? (uint32_t)left : SHARED_PIECE_BYTES;
}

#endif
