#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what a pool moves by the size of its payloads. Called by bench/payload.

Each figure is of a stream of echoes whose results are consumed as they come (imap), counted
one way; embedded and cluster alternate in each round. Below the table: 400 echoes of 1 MiB
as a map, which keeps all results, beside the stream of the same size.
"""
import statistics
import sys

import measure

SIZES = [1, 16, 256, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20,
         256 << 20, 1 << 30]
UNITS = ["B", "KiB", "MiB", "GiB"]


def name(size):
    unit = 0
    while size >= 1024 and size % 1024 == 0:
        size, unit = size // 1024, unit + 1
    return f"{size} {UNITS[unit]}"


def rounds_of(rounds, command, cluster):
    """The figures of both sides: {side: {name: [values]}}."""
    figures = {"embedded": {}, "cluster": {}}
    for _ in range(rounds):
        for side, environment in (("embedded", {"FARPOOL_COORDINATOR": ""}),
                                  ("cluster", cluster.environment)):
            for figure, value in measure.run(command, environment).items():
                figures[side].setdefault(figure, []).append(value)
    return figures


def curve(build, rounds, sizes, cluster):
    print("\n| payload | embedded, MB/s | tasks/s | cluster, MB/s | tasks/s |\n|---|---|---|---|---|")
    for size in sizes:
        command = [f"{build}/bench/farpool-bench-payload", str(size), measure.PROCESSES]
        figures = rounds_of(rounds if size < 64 << 20 else 1, command, cluster)
        cells = [name(size)]
        for side in figures.values():
            cells += [f"{statistics.median(side['stream_mb_s']):,.4g}",
                      f"{statistics.median(side['stream_tasks_s']):,.4g}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def kept_or_not(build, rounds, cluster):
    print("\n| 1 MiB | embedded, MB/s | cluster, MB/s |\n|---|---|---|")
    for work, title in (("echo", "map: a cold pool, all results kept"),
                        ("echostream", "imap: a warm pool, each result consumed")):
        figures = rounds_of(rounds, [f"{build}/bench/farpool-bench", work, measure.PROCESSES],
                            cluster)
        cells = [measure.spread(side[f"{work}_mb_s"]) for side in figures.values()]
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)


def main():
    build = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    biggest = int(sys.argv[3]) if len(sys.argv) > 3 else SIZES[-1]
    cluster = measure.Cluster(build)
    try:
        curve(build, rounds, [size for size in SIZES if size <= biggest], cluster)
        kept_or_not(build, rounds, cluster)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
