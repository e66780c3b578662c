# SPDX-License-Identifier: Apache-2.0
#
# cluster.py: what the network tests share: a scratch folder, the daemons and the client
# (network_program) as processes of ours, and waiting on events with a deadline.
import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time


# What is started here ends with the test, also if that is told to end.
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


class Failed(Exception):
    pass


class Cluster:
    """before(node): the words in front of a command that runs on that node."""

    def __init__(self, build, before=lambda node: []):
        build = os.path.abspath(build)
        self.coordinator = build + "/farpool-coordinator"
        self.worker = build + "/farpool-worker"
        self.farpool = build + "/farpool"
        self.program = build + "/tests/network/network_program"
        for file in (self.coordinator, self.worker, self.farpool, self.program):
            if not os.access(file, os.X_OK):
                sys.exit(f"{sys.argv[0]}: {file} is not there: give a build folder")
        self.scratch = tempfile.mkdtemp()
        self.before = before
        self.running = []
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith("FARPOOL_")}
        self.environment["FARPOOL_OUTPUT"] = "none"

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for process in list(self.running):
            self.kill(process)
        if kind is not None:
            for name in sorted(os.listdir(self.scratch)):
                if name.endswith(".log"):
                    lines = open(f"{self.scratch}/{name}", errors="replace").readlines()
                    print(f"--- {name}\n" + "".join(lines[-15:]), file=sys.stderr)
        shutil.rmtree(self.scratch, ignore_errors=True)

    def start(self, node, log, *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, **options):
        file = open(f"{self.scratch}/{log}.log", "ab")
        environment = {**self.environment, **options.pop("environment", {})}
        process = subprocess.Popen([*self.before(node), *map(str, command)], stderr=file,
                                   stdin=stdin, stdout=stdout, env=environment, cwd=self.scratch, **options)
        file.close()
        process.log = f"{self.scratch}/{log}.log"
        self.running.append(process)
        return process

    def kill(self, process):
        """SIGKILL, also to a process that is stopped; its end is waited for."""
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if process in self.running:
            self.running.remove(process)

    def keys(self):
        """Key files in scratch: keys/ for the coordinator, NAME.key by role."""
        run = dict(check=True, env=self.environment, cwd=self.scratch, stdout=subprocess.DEVNULL)
        subprocess.run([self.farpool, "keys", "init", "keys"], **run)
        for role in ("client", "worker", "admin"):
            subprocess.run([self.farpool, "keys", "add", "keys", role, role, "--out", role + ".key"], **run)

    def start_coordinator(self, node, listen, *options):
        return self.start(node, "coordinator", self.coordinator, "--listen", listen, *options)

    def start_worker(self, node, address, *options):
        return self.start(node, node, self.worker, "--name", node, "--coordinator", address,
                          "--cache", f"{self.scratch}/cache-{node}",
                          "--scratch", f"{self.scratch}/run-{node}", *options)

    def start_client(self, node, address, *arguments, key=None, lanes=True):
        environment = {"FARPOOL_COORDINATOR": address}
        if not lanes:
            environment["FARPOOL_LANES"] = "none"
        if key:
            environment["FARPOOL_KEY"] = f"{self.scratch}/{key}"
        return Client(self.start(node, "client", self.program, *arguments, environment=environment,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def ask(self, node, address, command, *arguments, key=None):
        """Standard output of a farpool command; Failed if it ends otherwise than with 0."""
        words = [self.farpool, command, "--coordinator", address, *arguments]
        words += ["--key", f"{self.scratch}/{key}"] if key else []
        done = subprocess.run([*self.before(node), *words], env=self.environment, text=True,
                              capture_output=True, cwd=self.scratch, timeout=60)
        if done.returncode != 0:
            raise Failed(f"farpool {command}: status {done.returncode}: {done.stderr}")
        return done.stdout

    def status(self, node, address, key=None):
        return json.loads(self.ask(node, address, "status", "--json", key=key))


class Client:
    def __init__(self, process):
        self.process = process
        self.maps = self.results = 0
        self.lines = []
        os.set_blocking(process.stdout.fileno(), False)
        self.rest = ""

    def read(self):
        """Takes what it has said; Failed if it has ended otherwise than well."""
        try:
            while data := os.read(self.process.stdout.fileno(), 65536).decode():
                self.rest += data
        except BlockingIOError:
            pass
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            self.lines.append(line)
            if found := re.fullmatch(r"i?map \d+: (\d+) results right in .*", line):
                self.maps += 1
                self.results += int(found[1])
        if self.process.poll() not in (None, 0):
            raise Failed(f"the client ended with status {self.process.poll()}: "
                         + open(self.process.log, errors="replace").read()[-2000:])

    def is_open(self):
        self.read()
        return "open" in self.lines

    def has_mapped(self, maps):
        self.read()
        return self.maps >= maps

    def has_ended(self):
        self.read()
        return self.process.poll() is not None

    async def end(self, limit_s):
        """Has it end after the map that it is in."""
        self.process.stdin.close()
        await until(f"the client's end within {limit_s} s", self.has_ended, limit_s)
        self.read()


async def until(what, holds, limit_s):
    """Asks until it holds; returns the seconds that took."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > limit_s:
            raise Failed(f"waited {limit_s} s for {what}")
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def said(path, pattern):
    """The first match in a file, or None."""
    with open(path, errors="replace") as file:
        return re.search(pattern, file.read())


def count(path, pattern):
    with open(path, errors="replace") as file:
        return len(re.findall(pattern, file.read()))
