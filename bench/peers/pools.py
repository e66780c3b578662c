#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pools of Python on the works of bench/compare.

usage: pools.py PEER WORK [processes]
PEER: multiprocessing, executor, joblib, mpi4py, dask
"""
import os
import random
import statistics
import sys
import time
import warnings
from array import array

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ["PYTHONPATH"] = sys.path[0]
import functions  # noqa: E402

MIB = 1 << 20
JOBS = 5
CHUNK = 1000


class Multiprocessing:
    noop1, noops, calls = 100000, 2000000, 2000

    def start(self, processes):
        import multiprocessing

        self.pool = multiprocessing.Pool(processes)

    def stop(self):
        self.pool.terminate()

    def one_by_one(self, function, items):
        return self.pool.map(function, items, 1)

    def best(self, function, items):
        return self.pool.map(function, items)

    def stream(self, function, items):
        return self.pool.imap(function, items, 1)

    def call(self, function, item):
        return self.pool.apply(function, (item,))

    def submit_each(self, function, items):
        handles = [self.pool.apply_async(function, (item,)) for item in items]
        return [handle.get() for handle in handles]


class Executor:
    """concurrent.futures.ProcessPoolExecutor, and what has its interface."""

    noop1, noops, calls = 20000, 1000000, 2000

    def start(self, processes):
        from concurrent.futures import ProcessPoolExecutor

        self.pool = ProcessPoolExecutor(processes)

    def stop(self):
        self.pool.shutdown()

    def one_by_one(self, function, items):
        handles = [self.pool.submit(function, item) for item in items]
        return [handle.result() for handle in handles]

    def best(self, function, items):
        chunk = max(1, min(CHUNK, len(items) // 8))
        return list(self.pool.map(function, items, chunksize=chunk))

    def stream(self, function, items):
        return self.pool.map(function, items)

    def call(self, function, item):
        return self.pool.submit(function, item).result()

    submit_each = one_by_one


class Mpi4py(Executor):
    """mpi4py.futures; run by mpirun -m mpi4py.futures."""

    def start(self, processes):
        from mpi4py.futures import MPIPoolExecutor

        self.pool = MPIPoolExecutor(max_workers=processes)


class Joblib:
    noop1, noops, calls = 5000, 200000, 300

    def start(self, processes):
        from joblib import Parallel

        self.single = Parallel(n_jobs=processes, batch_size=1).__enter__()
        self.batches = Parallel(n_jobs=processes, batch_size="auto").__enter__()

    def stop(self):
        self.single.__exit__(None, None, None)
        self.batches.__exit__(None, None, None)

    def one_by_one(self, function, items):
        from joblib import delayed

        return self.single(delayed(function)(item) for item in items)

    def best(self, function, items):
        from joblib import delayed

        return self.batches(delayed(function)(item) for item in items)

    def call(self, function, item):
        return self.one_by_one(function, [item])[0]

    submit_each = one_by_one


class Dask:
    """dask.distributed, with worker processes of one thread on loopback TCP."""

    noop1, noops, calls = 5000, 1000000, 300

    def start(self, processes):
        warnings.simplefilter("ignore")
        os.environ["DASK_DISTRIBUTED__LOGGING__DISTRIBUTED"] = "critical"
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=processes,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            memory_limit=0,
        )
        self.client = Client(self.cluster)

    def stop(self):
        self.client.close()
        self.cluster.close()
        os._exit(0)  # or it tries for seconds more to reach what has ended

    def one_by_one(self, function, items):
        return self.client.gather(self.client.map(function, items, pure=False))

    def best(self, function, items):
        if function is not functions.noop:
            return self.one_by_one(function, items)
        chunks = [array("q", items[i : i + CHUNK]) for i in range(0, len(items), CHUNK)]
        return [x for chunk in self.one_by_one(functions.noops, chunks) for x in chunk]

    def call(self, function, item):
        return self.client.submit(function, item, pure=False).result()

    submit_each = one_by_one


PEERS = {
    "multiprocessing": Multiprocessing,
    "executor": Executor,
    "mpi4py": Mpi4py,
    "joblib": Joblib,
    "dask": Dask,
}


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def run_noops(peer, name, run, count):
    items = list(range(count))
    seconds, result = timed(lambda: run(functions.noop, items))
    assert sum(result) == count * (count + 1) // 2
    print(f"{name} {count / seconds:.0f}")


def run_apply(peer):
    times = []
    for i in range(-20, peer.calls):
        seconds, result = timed(lambda: peer.call(functions.noop, i))
        assert result == i + 1
        if i >= 0:
            times.append(seconds * 1e6)
    times.sort()
    print(f"apply_p50_us {times[len(times) // 2]:.2f}")
    print(f"apply_p99_us {times[len(times) * 99 // 100]:.2f}")


def run_echo(peer):
    items = [b"x" * MIB] * 200
    seconds, result = timed(lambda: peer.one_by_one(functions.echo, items))
    assert all(len(block) == MIB for block in result)
    print(f"echo_mb_s {len(items) * MIB / 1e6 / seconds:.0f}")


def run_echostream(peer):
    """Each result is consumed as it comes; so are those before, whose time is not taken."""

    def stream(count):
        taken = 0
        for block in peer.stream(functions.echo, [b"x" * MIB] * count):
            taken += len(block)
        return taken

    stream(50)
    seconds, taken = timed(lambda: stream(400))
    assert taken == 400 * MIB
    print(f"echostream_mb_s {taken / 1e6 / seconds:.0f}")


def run_efficiency(peer, name, duration_us):
    items = [duration_us] * (2000000 // duration_us)
    shares = []
    for _ in range(JOBS):
        seconds, result = timed(lambda: peer.best(functions.spin, items))
        assert sum(result) == 2000000
        shares.append(100 / seconds)
    print(f"{name} {statistics.median(shares):.2f}")


def run_skew(peer, name, at_end):
    items = [1000] * 1501
    if at_end:
        items[-2:] = [300000] * 2
    else:
        items[random.randrange(len(items))] = 500000
    # Chunks of one: what knows its trade uses for such work.
    seconds, result = timed(lambda: peer.one_by_one(functions.spin, items))
    assert sum(result) == sum(items)
    print(f"{name} {seconds / (sum(items) / 2e6):.3f}")


def run_kill(peer):
    items = [functions.LONG_US] * 200
    whole, _ = timed(lambda: peer.one_by_one(functions.spin, items))
    items[100] = -1
    killed, _ = timed(lambda: peer.one_by_one(functions.spin, items))
    print(f"kill_lost_ms {(killed - whole) * 1e3:.1f}")


def run(peer, work):
    {
        "noop1": lambda: run_noops(peer, "noop1_s", peer.one_by_one, peer.noop1),
        "noop": lambda: run_noops(peer, "noop_s", peer.best, peer.noops),
        "async": lambda: run_noops(peer, "async_s", peer.submit_each, peer.noop1),
        "apply": lambda: run_apply(peer),
        "echo": lambda: run_echo(peer),
        "echostream": lambda: run_echostream(peer),
        "eff1ms": lambda: run_efficiency(peer, "eff1ms_pct", 1000),
        "eff100us": lambda: run_efficiency(peer, "eff100us_pct", 100),
        "eff10us": lambda: run_efficiency(peer, "eff10us_pct", 10),
        "skew": lambda: run_skew(peer, "skew_x", False),
        "skewend": lambda: run_skew(peer, "skewend_x", True),
        "kill": lambda: run_kill(peer),
        "start": lambda: print("start_done 1"),
    }[work]()
    sys.stdout.flush()


def main():
    peer, work = PEERS[sys.argv[1]](), sys.argv[2]
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    peer.start(processes)
    assert peer.call(functions.noop, 1) == 2
    if work != "start":
        peer.one_by_one(functions.spin, [2000] * (4 * processes))
    run(peer, work)
    peer.stop()


if __name__ == "__main__":
    main()
