#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a loopback cluster without keys and one with keys, side by side.

Called by bench/keys with the build folder and the number of rounds.
"""
import os
import statistics
import sys

from measure import PROCESSES, TITLES, WORKLOADS, Cluster, run, spread


def main():
    build, rounds = sys.argv[1], int(sys.argv[2])
    sides = {"without": Cluster(build), "with": Cluster(build, keys=True)}
    figures = {side: {} for side in sides}
    try:
        for workload in WORKLOADS:
            print(f"  {workload}", file=sys.stderr, flush=True)
            for _ in range(rounds):
                for side, cluster in sides.items():
                    bench = [f"{build}/bench/farpool-bench", workload, PROCESSES]
                    for name, value in run(bench, cluster.environment).items():
                        figures[side].setdefault(name, []).append(value)
    finally:
        for cluster in sides.values():
            cluster.stop()

    print(f"\n{rounds} rounds, medians (min-max); x: with keys, as good as without;"
          f" {PROCESSES} processes, {os.cpu_count()} cores\n")
    print("| work | without keys | with keys | x |")
    print("|---|---|---|---|")
    for name, (title, unit, more_is_better) in TITLES.items():
        before, after = (figures[side][name] for side in ("without", "with"))
        ratio = statistics.median(after) / statistics.median(before)
        print(f"| {title}, {unit} | {spread(before)} | {spread(after)} |"
              f" {ratio if more_is_better else 1 / ratio:.2g} |")


if __name__ == "__main__":
    main()
