#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Farpool beside what people use otherwise, all in one run.

Each work is done by each peer in turn, round after round, so that a change in the
machine's mood meets all of them. A peer that has servers or daemons gets fresh ones for
each work. Called by bench/compare; see --help.
"""
import argparse
import contextlib
import datetime
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import measure

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"  # the one that Debian's packages are for
BEGIN, END = "<!-- begin bench/compare -->", "<!-- end bench/compare -->"
LIMIT_S = 60  # of one work of one peer; who needs more hangs or is of no use
FIGURES = {
    "noop1_s": ("no-op, one by one", "tasks/s", True),
    "noop_s": ("no-op, best batching", "tasks/s", True),
    "async_s": ("apply_async, one by one", "tasks/s", True),
    "apply_p50_us": ("apply, p50", "us", False),
    "apply_p99_us": ("apply, p99", "us", False),
    "echo_mb_s": ("echo of 1 MiB, one way, results kept", "MB/s", True),
    "echostream_mb_s": ("echo of 1 MiB, one way, each result consumed", "MB/s", True),
    "eff1ms_pct": ("efficiency, 1 ms tasks", "%", True),
    "eff100us_pct": ("efficiency, 100 us tasks", "%", True),
    "eff10us_pct": ("efficiency, 10 us tasks", "%", True),
    "skew_x": ("one task of 500 ms among 1,500 of 1 ms", "x ideal", False),
    "skewend_x": ("two of 300 ms at the end", "x ideal", False),
    "kill_lost_ms": ("a process killed in mid-map", "ms lost", False),
    "start_ms": ("start to first result", "ms", False),
    "commands_s": ("commands (true), one by one", "commands/s", True),
}
WORKS = ["noop1", "noop", "async", "apply", "echo", "echostream", "eff1ms", "eff100us", "eff10us",
         "skew", "skewend", "kill", "start", "commands"]
ALL = set(WORKS)
CALLS = ALL - {"commands"}  # of a function: what all but shell tools do


class Failed(Exception):
    """Why a peer has no figures for a work."""


class Peer:
    """One column: how its works are started. Without servers, unless it says so."""

    def __init__(self, name, command, works=CALLS, environment=None):
        self.name, self.command, self.works = name, command, works
        self.environment = environment or {}

    def words(self, work):
        return [*self.command, work]

    @contextlib.contextmanager
    def servers(self):
        yield self.environment

    def measure(self, work):
        start = time.monotonic()
        with self.servers() as environment:
            return run(self.words(work), environment, start)


def run_commands(*command):
    return [PYTHON, f"{HERE}/peers/commands.py", *command]


class Shell(Peer):
    """A tool of the shell, that runs commands."""

    def __init__(self, name, *command):
        super().__init__(name, run_commands(*command), {"commands"})

    def words(self, work):
        return self.command


class Farpool(Peer):
    """On this machine's cores."""

    def __init__(self, name, build):
        super().__init__(name, [f"{build}/bench/farpool-bench"], ALL, {"FARPOOL_COORDINATOR": ""})
        self.build = build

    def words(self, work):
        return run_commands(f"{self.build}/farpool", "map", "true") if work == "commands" \
            else super().words(work)


class FarpoolCluster(Farpool):
    """On a coordinator and two workers of its own, on loopback TCP."""

    @contextlib.contextmanager
    def servers(self):
        cluster = measure.Cluster(self.build)
        try:
            yield cluster.environment
        finally:
            cluster.stop()


class Queue(Peer):
    """A server, two workers and a client that know each other by a port."""

    def __init__(self, name, program, server, works):
        super().__init__(name, [program], works)
        self.server = server

    def words(self, work):
        return [*self.command, str(self.port), work]

    @contextlib.contextmanager
    def servers(self):
        self.port = free_port()
        children = [quiet([word.format(port=self.port) for word in self.server])]
        try:
            wait_for_port(self.port)
            children += [quiet([*self.command, str(self.port), "worker"]) for _ in range(2)]
            yield self.environment
        finally:
            for child in children:
                child.kill()
                child.wait()


def quiet(command):
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.002)
    raise Failed("its server does not listen")


def run(command, environment, start):
    """The figures that a run prints, by name; what starts is timed from outside."""
    with tempfile.TemporaryDirectory(prefix="farpool-bench-") as scratch:
        child = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, **environment, "BENCH_MARKER": f"{scratch}/killed"})
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(child.pid, signal.SIGKILL))
        signal.alarm(LIMIT_S)
        figures = {}
        for line in child.stdout:
            name, _, value = line.strip().partition(" ")
            if name == "start_done":
                figures["start_ms"] = (time.monotonic() - start) * 1e3
            elif name in FIGURES:
                figures[name] = float(value)
        status = child.wait()
        signal.alarm(0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what it left behind
    if status == -signal.SIGKILL:
        raise Failed("hangs")
    if status != 0 or not figures:
        raise Failed("fails")
    return figures


def peers_of(build):
    python = [PYTHON, f"{HERE}/peers/pools.py"]
    mpi = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "3",
           "--mca", "mpi_yield_when_idle", "1"]
    ob1 = ["--mca", "pml", "ob1"]
    queues = CALLS - {"async"}
    lists = CALLS - {"echostream"}  # all results at once, always
    folder = f"{build}/bench/peers"
    return [
        Farpool("Farpool, embedded", build),
        FarpoolCluster("Farpool, cluster", build),
        Peer("multiprocessing.Pool", [*python, "multiprocessing"]),
        Peer("ProcessPoolExecutor", [*python, "executor"]),
        Peer("joblib", [*python, "joblib"], lists),
        Peer("mpi4py.futures", [*mpi, PYTHON, "-m", "mpi4py.futures", python[1], "mpi4py"]),
        Peer("dask.distributed", [*python, "dask"], lists),
        Peer("MPI, shared memory", [*mpi, *ob1, "--mca", "btl", "self,vader",
                                    f"{folder}/peer-mpi"], queues),
        Peer("MPI, TCP", [*mpi, *ob1, "--mca", "btl", "self,tcp",
                          "--mca", "btl_tcp_if_include", "lo", f"{folder}/peer-mpi"], queues),
        Queue("Gearman", f"{folder}/peer-gearman",
              ["gearmand", "-L", "127.0.0.1", "-p", "{port}", "-t", "1", "-l", "/dev/null"], queues),
        Queue("beanstalkd", f"{folder}/peer-beanstalk",
              ["beanstalkd", "-l", "127.0.0.1", "-p", "{port}", "-z", "4000000"], queues),
        Queue("Redis lists", f"{folder}/peer-redis",
              ["redis-server", "--bind", "127.0.0.1", "--port", "{port}", "--save", "",
               "--appendonly", "no"], queues),
        Shell("xargs", "xargs", "-P2", "-n1", "true"),
        Shell("GNU parallel", "parallel", "-j2", "true"),
        # Floors: no pools, but what they are made of.
        Peer("raw ZeroMQ chain", [f"{folder}/peer-chain"], queues - {"kill"}),
        Peer("raw shared rings", [f"{folder}/peer-ring"],
             {"noop1", "apply", "eff1ms", "eff100us", "eff10us"}),
    ]


def measure_all(peers, works, rounds):
    """By peer and figure: the values; by peer and work: why there are none."""
    values, failures = {}, {}
    for work in works:
        for number in range(rounds):
            for peer in peers:
                if work not in peer.works or (peer.name, work) in failures:
                    continue
                print(f"\r\033[K{work}, round {number + 1} of {rounds}: {peer.name}", end="",
                      file=sys.stderr, flush=True)
                try:
                    for name, value in peer.measure(work).items():
                        values.setdefault((peer.name, name), []).append(value)
                except Failed as failure:
                    failures[peer.name, work] = str(failure)
    print(file=sys.stderr)
    return values, failures


def work_of(figure):
    return figure.rsplit("_", 1)[0].replace("_p50", "").replace("_p99", "").replace("_lost", "") \
        .replace("_mb", "")


def table(peers, works, values, failures):
    figures = [name for name in FIGURES if work_of(name) in works]
    lines = ["| | " + " | ".join(f"{FIGURES[n][0]}, {FIGURES[n][1]}" for n in figures) + " |",
             "|---" * (len(figures) + 1) + "|"]
    for peer in peers:
        cells = []
        for name in figures:
            if (peer.name, name) in values:
                cells.append(measure.spread(values[peer.name, name]))
            else:
                cells.append(failures.get((peer.name, work_of(name)), "-"))
        lines.append(f"| {peer.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(path, peers, values):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    names = [n for n in FIGURES if n != "kill_lost_ms" and any((p.name, n) in values for p in peers)]
    figure, axes = pyplot.subplots((len(names) + 2) // 3, 3, figsize=(15, 3 * ((len(names) + 2) // 3)),
                                   squeeze=False)
    for axis in axes.flat[len(names):]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names):
        title, unit, more = FIGURES[name]
        shown = [p.name for p in reversed(peers) if (p.name, name) in values]
        middles = [statistics.median(values[p, name]) for p in shown]
        axis.barh(shown, middles, color=["#d95f02" if p.startswith("Farpool") else "#7570b3" for p in shown])
        if unit not in ("%", "x ideal"):
            axis.set_xscale("log")
        axis.set_title(f"{title}, {unit} ({'more' if more else 'less'} is better)", fontsize=9)
        axis.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(path)


def describe_machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}"


def write_report(path, peers, works, values, failures, rounds):
    packages = ["python3", "python3-joblib", "python3-mpi4py", "python3-distributed", "openmpi-bin",
                "gearman-job-server", "beanstalkd", "redis-server", "parallel", "findutils", "libzmq5"]
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}, ", *packages],
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    svg = os.path.splitext(path)[0] + ".svg"
    plot(svg, peers, values)
    section = f"""{BEGIN}
## Beside others

Written by `bench/compare` on {datetime.date.today()}: {describe_machine()};
{shown.stdout.rstrip(', ')}.

Two worker processes each, everything on loopback, {rounds} interleaved rounds: medians
(min-max). Absolute figures belong to this machine and its mood; compare within a column.
"hangs": not back after {LIMIT_S} s. "-": there is no such thing.

{table(peers, works, values, failures)}

![the same as bars]({os.path.basename(svg)})
{END}
"""
    put_section(path, section)


def put_section(path, section):
    """In the place of the last one; else at the file's end, which may be new."""
    text = ""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as page:
        text = page.read()
    before, begin, rest = text.partition(BEGIN)
    after = rest.partition(END + "\n")[2] if begin else ""
    if before and not begin:
        before += "\n"
    with open(path, "w", encoding="utf-8") as page:
        page.write(before + section + after)


def main():
    parser = argparse.ArgumentParser(prog="bench/compare", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", default=",".join(WORKS), help="some of: " + ", ".join(WORKS))
    parser.add_argument("--peers", help="words of the names of some, as in: Farpool,MPI")
    parser.add_argument("--write", metavar="FILE", help="put it into this page (docs/performance.md), with plots beside it")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    works = arguments.works.split(",")
    unknown = set(works) - ALL
    if unknown or arguments.rounds < 1:
        parser.error(f"no such works: {', '.join(sorted(unknown))}" if unknown else "--rounds is 1 at least")
    peers = [p for p in peers_of(arguments.build)
             if not arguments.peers or any(word in p.name for word in arguments.peers.split(","))]
    if not peers:
        parser.error(f"no peer has one of these words in its name: {arguments.peers}")
    values, failures = measure_all(peers, works, arguments.rounds)
    print(table(peers, works, values, failures))
    if arguments.write:
        write_report(arguments.write, peers, works, values, failures, arguments.rounds)


if __name__ == "__main__":
    main()
