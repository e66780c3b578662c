#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what more of everything costs: tasks, and workers. Called by bench/growth.

Tasks run embedded. Workers are connections of one process that speaks the protocol and
does no work (bench/workers.c), so that what is left is the coordinator's own: its CPU time
comes from /proc, its memory is what is resident.
"""
import os
import subprocess
import sys
import tempfile
import time

import measure

ROUNDS = 3
CHUNKS, CHUNKS_A_WORKER = 20000, 100  # of a map: the larger; a worker also costs its opening
IDLE_S = 10
CROWD = 4000  # workers to a process
TASK_MS = 1000  # so long that a worker is given two chunks at a time
TICKS = os.sysconf("SC_CLK_TCK")


class Coordinator:
    """One with room for many workers, and how much it uses."""

    def __init__(self, build, workers):
        self.scratch = tempfile.TemporaryDirectory(prefix="farpool-growth-")
        path = f"{self.scratch.name}/log"
        with open(path, "w", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(
                [f"{build}/farpool-coordinator", "--listen", "tcp://127.0.0.1:*",
                 "--workers-max", str(workers + 1), "--clients-max", "100"], stderr=log)
        self.address = measure.Cluster.wait_for(self, path, r"address=(\S+)")

    def cpu_s(self):
        with open(f"/proc/{self.daemon.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_kib(self):
        with open(f"/proc/{self.daemon.pid}/status", encoding="utf-8") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def stop(self):
        self.daemon.kill()
        self.daemon.wait()
        self.scratch.cleanup()


def grow(build, *arguments, address=""):
    return measure.run([f"{build}/bench/farpool-bench-grow", *arguments],
                       {"FARPOOL_COORDINATOR": address})


def tasks(build, most):
    print("\n| tasks through imap, embedded | ns a task | resident, MiB |\n|---|---|---|")
    count, first = 10000, None
    while count <= most:
        runs = [grow(build, "imap", str(count)) for _ in range(ROUNDS if count < 1e8 else 1)]
        nanoseconds = sorted(run["ns_a_task"] for run in runs)[len(runs) // 2]
        resident = max(run["resident_kib"] for run in runs) / 1024
        first = first or nanoseconds
        print(f"| {count:,} | {nanoseconds:.0f} ({nanoseconds / first:.2f} x) | {resident:.1f} |",
              flush=True)
        count *= 10
    own = grow(build, "map", "10000000")["bytes_a_task"]
    print(f"\na map of 10,000,000: {own:.1f} bytes a task beside its inputs and outputs")


class Crowd:
    """Workers, some thousands to a process, since each takes two open files."""

    def __init__(self, build, count, address):
        self.parts = []
        while count > 0:
            some = min(count, CROWD)
            count -= some
            self.parts.append(subprocess.Popen(
                [f"{build}/bench/farpool-bench-workers", str(some), address, str(TASK_MS)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def wait_until_up(self):
        for part in self.parts:
            if part.stdout.readline() != "up\n":
                sys.exit("bench/growth: the workers did not come up")

    def stop(self):
        for part in self.parts:
            part.stdin.close()
        for part in self.parts:
            part.wait()


def workers_row(build, count):
    """CPU a chunk in us, KiB a worker, and heartbeats in % of a core."""
    coordinator = Coordinator(build, count)
    before_kib = coordinator.resident_kib()
    crowd = Crowd(build, count, coordinator.address)
    try:
        crowd.wait_until_up()
        each_kib = (coordinator.resident_kib() - before_kib) / count
        idle_s = coordinator.cpu_s()
        time.sleep(IDLE_S)
        idle_s = coordinator.cpu_s() - idle_s
        costs, chunks = [], max(CHUNKS, CHUNKS_A_WORKER * count)
        for _ in range(ROUNDS):
            before_s = coordinator.cpu_s()
            grow(build, "chunks", str(chunks), address=coordinator.address)
            costs.append((coordinator.cpu_s() - before_s) / chunks * 1e6)
    finally:
        crowd.stop()
        coordinator.stop()
    return sorted(costs)[ROUNDS // 2], each_kib, idle_s / IDLE_S * 100


def workers(build, most):
    print("\n| workers | coordinator's CPU a chunk of one task, us | memory a "
          "worker, KiB | heartbeats, % of a core |\n|---|---|---|---|")
    count, first = 1, None
    while count <= most:
        cost, each_kib, idle = workers_row(build, count)
        first = first or cost
        print(f"| {count:,} | {cost:.1f} ({cost / first:.2f} x) | {each_kib:.1f} | {idle:.1f} |",
              flush=True)
        count *= 10


def main():
    build, full = sys.argv[1], "--full" in sys.argv[2:]
    print(f"{os.cpu_count()} cores; medians of {ROUNDS}")
    tasks(build, 10**8 if full else 10**6)
    workers(build, 10**4 if full else 10**3)


if __name__ == "__main__":
    main()
