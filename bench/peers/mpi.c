/* SPDX-License-Identifier: Apache-2.0
 *
 * mpi.c: MPI in the way that people write it: rank 0 gives items to whoever answers, and
 * keeps some on the way to each.    mpirun -n 3 peer-mpi WORK */
#include "work.h"

#include <mpi.h>
#include <stdlib.h>

enum { ITEM_MAX = 1 << 20, TAG_STOP = 100 };

static char *buffer;
static int workers;

static void send_item(const struct work_items *items, long i, int worker)
{
    MPI_Send((const char *)items->base + (size_t)i * items->stride, (int)items->size,
             MPI_BYTE, worker, (int)items->op, MPI_COMM_WORLD);
}

static void run(const struct work_items *items, long window)
{
    long sent = 0;
    for (long k = 0; k < window; k++)
        for (int worker = 1; worker <= workers && sent < items->count; worker++)
            send_item(items, sent++, worker);
    for (long got = 0; got < items->count; got++) {
        MPI_Status status;
        int size;
        MPI_Recv(buffer, ITEM_MAX, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD,
                 &status);
        MPI_Get_count(&status, MPI_BYTE, &size);
        work_result(buffer, (size_t)size);
        if (sent < items->count)
            send_item(items, sent++, status.MPI_SOURCE);
    }
}

static void serve(void)
{
    for (;;) {
        MPI_Status status;
        int size;
        MPI_Recv(buffer, ITEM_MAX, MPI_BYTE, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        if (status.MPI_TAG == TAG_STOP)
            return;
        MPI_Get_count(&status, MPI_BYTE, &size);
        work_do((enum work_op)status.MPI_TAG, buffer, (size_t)size);
        MPI_Send(buffer, size, MPI_BYTE, 0, status.MPI_TAG, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    static const struct work_peer peer = {run, 8, 1, 2};
    int rank, ranks;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    workers = ranks - 1;
    buffer = malloc(ITEM_MAX);
    if (argc != 2 || workers < 1 || buffer == NULL)
        work_die("usage: mpirun -n 3 peer-mpi WORK");
    if (rank > 0) {
        serve();
    } else {
        work_run(argv[1], &peer);
        for (int worker = 1; worker <= workers; worker++)
            MPI_Send(buffer, 1, MPI_BYTE, worker, TAG_STOP, MPI_COMM_WORLD);
    }
    free(buffer);
    MPI_Finalize();
    return 0;
}
