#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: commands.py COMMAND...: how many commands a second it runs.

COMMAND (farpool map true, xargs -P2 -n1 true ...) is given 500 lines, and runs one
command for each."""
import subprocess
import sys
import time

COUNT = 500

lines = "".join(f"{i}\n" for i in range(COUNT))
start = time.perf_counter()
subprocess.run(sys.argv[1:], input=lines, text=True, check=True)
print(f"commands_s {COUNT / (time.perf_counter() - start):.0f}")
