#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPython's multiprocessing.Pool on the workloads of bench.c, printing the same names.

usage: peer_multiprocessing.py WORKLOAD [processes]
"""
import multiprocessing
import statistics
import sys
import time

MIB = 1 << 20
WARM_TASKS = 4  # a process, of so many microseconds: until all are up
WARM_US = 2000
EFFICIENCY_JOBS = 5


def noop(x):
    return x + 1


def echo(block):
    return block


def spin(duration_us):
    end = time.thread_time_ns() + duration_us * 1000
    while time.thread_time_ns() < end:
        pass
    return duration_us


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def run_noop(pool, name, count, chunk):
    items = list(range(count))
    seconds, result = timed(lambda: pool.map(noop, items, chunk))
    assert sum(result) == count * (count + 1) // 2
    print(f"{name} {count / seconds:.0f}")


def run_apply(pool):
    times = []
    for i in range(-100, 3000):
        seconds, result = timed(lambda: pool.apply(noop, (i,)))
        assert result == i + 1
        if i >= 0:
            times.append(seconds * 1e6)
    times.sort()
    print(f"apply_p50_us {times[len(times) // 2]:.2f}")
    print(f"apply_p99_us {times[len(times) * 99 // 100]:.2f}")


def run_echo(pool):
    items = [b"x" * MIB] * 400
    seconds, result = timed(lambda: pool.map(echo, items, 1))
    assert all(len(block) == MIB for block in result)
    print(f"echo_mb_s {len(items) * MIB / 1e6 / seconds:.0f}")


def run_efficiency(pool, name, count, duration_us, processes):
    shares = []
    for _ in range(EFFICIENCY_JOBS):
        seconds, result = timed(lambda: pool.map(spin, [duration_us] * count))
        assert sum(result) == count * duration_us
        shares.append(100 * count * duration_us / 1e6 / processes / seconds)
    print(f"{name} {statistics.median(shares):.2f}")


def main():
    workload = sys.argv[1]
    processes = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with multiprocessing.Pool(processes) as pool:
        for i in range(4):
            pool.apply(noop, (i,))
        if workload != "start":
            pool.map(spin, [WARM_US] * (WARM_TASKS * processes), chunksize=1)
        {
            "noop1": lambda: run_noop(pool, "noop1_s", 200000, 1),
            "noop": lambda: run_noop(pool, "noop_s", 2000000, None),
            "apply": lambda: run_apply(pool),
            "echo": lambda: run_echo(pool),
            "eff1ms": lambda: run_efficiency(pool, "eff1ms_pct", 2000, 1000, processes),
            "eff100us": lambda: run_efficiency(pool, "eff100us_pct", 20000, 100, processes),
            "start": lambda: print("start_done 1"),
        }[workload]()
        sys.stdout.flush()


if __name__ == "__main__":
    main()
