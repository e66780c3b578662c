# SPDX-License-Identifier: Apache-2.0
"""What the workers of the Python peers run. In a module of its own, so that peers whose
workers are not forks can import it."""
import os
import signal
import time
from array import array

LONG_US = 20000


def noop(x):
    return x + 1


def noops(chunk):
    """A chunk made by hand, for peers without chunks: an array, which no peer looks into."""
    return array("q", [x + 1 for x in chunk])


def echo(block):
    return block


def spin(duration_us):
    """Burns so much CPU time; -1: the first process that is told so kills itself."""
    if duration_us < 0:
        try:
            os.close(os.open(os.environ["BENCH_MARKER"], os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            duration_us = LONG_US
    end = time.thread_time_ns() + duration_us * 1000
    while time.thread_time_ns() < end:
        pass
    return duration_us
