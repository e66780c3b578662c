#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Farpool embedded, Farpool on a loopback cluster and multiprocessing.Pool.

All three sides of a workload run one after the other in each round, so that a change in
the machine's mood meets all of them; the table gives medians, the spread and ratios.
Called by bench/run with the build folder and the number of rounds.
"""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

WORKLOADS = ["noop1", "noop", "apply", "echo", "echostream", "eff100us", "eff1ms", "start"]
TITLES = {
    "noop1_s": ("no-op on one int, chunk size 1", "tasks/s", True),
    "noop_s": ("no-op on one int, automatic chunks", "tasks/s", True),
    "apply_p50_us": ("apply, p50", "us", False),
    "apply_p99_us": ("apply, p99", "us", False),
    "echo_mb_s": ("echo of 1 MiB, one way, results kept", "MB/s", True),
    "echostream_mb_s": ("the same, each result consumed", "MB/s", True),
    "eff100us_pct": ("efficiency, 100 us tasks", "%", True),
    "eff1ms_pct": ("efficiency, 1 ms tasks", "%", True),
    "start_ms": ("start to first result", "ms", False),
}
PROCESSES = "2"


class Cluster:
    """A coordinator and two workers of one slot each, on loopback; also with keys."""

    def __init__(self, build, keys=False):
        self.scratch = tempfile.TemporaryDirectory(prefix="farpool-bench-")
        self.daemons = []
        self.build = build
        folder = f"{self.scratch.name}/keys"
        if keys:
            self.make_keys("init", folder)
        log = self.start([f"{build}/farpool-coordinator", "--listen", "tcp://127.0.0.1:*"]
                         + (["--keys", folder] if keys else []))
        self.address = self.wait_for(log, r"address=(\S+)")
        self.environment = {"FARPOOL_COORDINATOR": self.address}
        if keys:
            self.environment["FARPOOL_KEY"] = self.make_key(folder, "client", "bench")
        for node in ("n1", "n2"):
            key = ["--key", self.make_key(folder, "worker", node)] if keys else []
            log = self.start([f"{build}/farpool-worker", "--coordinator", self.address, *key,
                              "--slots", "1", "--name", node, "--cache", f"{self.scratch.name}/{node}"])
            self.wait_for(log, r"(connected|welcome)")

    def make_keys(self, *arguments):
        subprocess.run([f"{self.build}/farpool", "keys", *arguments], check=True,
                       stdout=subprocess.DEVNULL)

    def make_key(self, folder, role, name):
        path = f"{self.scratch.name}/{name}.key"
        self.make_keys("add", folder, role, name, "--out", path)
        return path

    def start(self, command):
        path = f"{self.scratch.name}/{len(self.daemons)}.log"
        with open(path, "w", encoding="utf-8") as log:
            self.daemons.append(subprocess.Popen(command, stderr=log, stdout=log))
        return path

    def wait_for(self, path, pattern):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with open(path, encoding="utf-8") as log:
                found = re.search(pattern, log.read())
            if found:
                return found.group(1)
            time.sleep(0.01)
        sys.exit(f"bench: no '{pattern}' in {path} within 10 s")

    def stop(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.scratch.cleanup()


def run(command, environment):
    """The figures that one run prints, by name; 'start' is timed from outside."""
    start = time.monotonic()
    child = subprocess.Popen(command, env={**os.environ, **environment}, text=True,
                             stdout=subprocess.PIPE)
    figures = {}
    for line in child.stdout:
        name, value = line.split()
        if name == "start_done":
            name, value = "start_ms", (time.monotonic() - start) * 1e3
        figures[name] = float(value)
    if child.wait(300) != 0:
        sys.exit(f"bench: failed: {' '.join(command)}")
    return figures


def number(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def spread(values):
    """The median of some figures, and from where to where they go."""
    return f"{number(statistics.median(values))} ({number(min(values))}-{number(max(values))})"


def main():
    build, rounds = sys.argv[1], int(sys.argv[2])
    here = os.path.dirname(os.path.abspath(__file__))
    sides = {"embedded": {}, "cluster": {}, "mp.Pool": {}}
    cluster = Cluster(build)
    try:
        for workload in WORKLOADS:
            print(f"  {workload}", file=sys.stderr, flush=True)
            for _ in range(rounds):
                bench = [f"{build}/bench/farpool-bench", workload, PROCESSES]
                peer = [sys.executable, f"{here}/peers/pools.py", "multiprocessing", workload,
                        PROCESSES]
                for side, command, environment in (
                        ("embedded", bench, {"FARPOOL_COORDINATOR": ""}),
                        ("cluster", bench, cluster.environment),
                        ("mp.Pool", peer, {})):
                    for name, value in run(command, environment).items():
                        sides[side].setdefault(name, []).append(value)
    finally:
        cluster.stop()

    print(f"\n{rounds} rounds, medians (min-max); x: times as good as multiprocessing.Pool"
          f" of Python {sys.version.split()[0]}; {PROCESSES} processes, {os.cpu_count()} cores\n")
    print("| work | embedded | x | loopback cluster | x | multiprocessing.Pool |")
    print("|---|---|---|---|---|---|")
    behind = []
    for name, (title, unit, more_is_better) in TITLES.items():
        peer = statistics.median(sides["mp.Pool"][name])
        cells = [f"{title}, {unit}"]
        for side in ("embedded", "cluster"):
            values = sides[side][name]
            middle = statistics.median(values)
            ratio = middle / peer if more_is_better else peer / middle
            cells += [spread(values), f"{ratio:.3g}"]
            if ratio < 1:
                behind.append(f"{title} ({side})")
        cells.append(spread(sides["mp.Pool"][name]))
        print("| " + " | ".join(cells) + " |")
    print()
    print("behind multiprocessing.Pool: " + (", ".join(behind) or "nowhere"))


if __name__ == "__main__":
    main()
