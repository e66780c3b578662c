# SPDX-License-Identifier: Apache-2.0
#
# namespaces.py: nodes as network namespaces on a bridge, which are cut off by dropping
# packets: what a dead switch does, nobody is told. Root, or user namespaces, are needed;
# all of it is in namespaces of this test's own, which end with it.
import os
import subprocess
import sys

HEAD = "10.77.0.1"
MARK = "FARPOOL_TEST_NAMESPACE"


def enter(tools=("iptables",)):
    """Runs this script again in a user, network and mount namespace of its own. tools: what
    it needs there besides those that make one."""
    if os.environ.get(MARK):
        os.environ.pop(MARK)
        return
    for tool in ("unshare", "nsenter", "ip", *tools):
        if not any(os.access(f"{folder}/{tool}", os.X_OK) for folder in os.get_exec_path()):
            sys.exit(f"{sys.argv[0]}: {tool} is not there: install util-linux, iproute2 and iptables")
    namespaces = ["unshare", "-Urnm"]
    if subprocess.run([*namespaces, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"{sys.argv[0]}: this needs root, or user namespaces (unshare -Urnm), which "
                 "this machine does not allow to you")
    os.environ[MARK] = "1"
    os.execvp("unshare", [*namespaces, sys.executable, *sys.argv])


def run(*words):
    subprocess.run([str(word) for word in words], check=True)


def before(node):
    """What is put in front of a command that is to run there."""
    return [] if node == "head" else ["nsenter", f"--net=/run/netns/{node}"]


class Network:
    """The head (coordinator's) is the namespace that enter() made."""

    def __init__(self, nodes):
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "farpool0", "type", "bridge")
        run("ip", "addr", "add", f"{HEAD}/16", "dev", "farpool0")
        run("ip", "link", "set", "farpool0", "up")
        self.addresses = {}
        for number, node in enumerate(nodes, 2):
            self.add(node, f"10.77.0.{number}")

    def add(self, node, address):
        self.addresses[node] = address
        run("ip", "netns", "add", node)
        run("ip", "link", "add", f"to-{node}", "type", "veth", "peer", "name", "eth0", "netns", node)
        run("ip", "link", "set", f"to-{node}", "master", "farpool0", "up")
        inside = ["ip", "-n", node]
        run(*inside, "addr", "add", f"{address}/16", "dev", "eth0")
        for interface in ("lo", "eth0"):
            run(*inside, "link", "set", interface, "up")

    def drop(self, node, up=False, down=False, heal=False):
        """Loses all that the node says (up), or is told (down), or no more of that."""
        rule = ["-D" if heal else "-I", "INPUT", "-s"]
        if up:
            run("iptables", *rule, self.addresses[node], "-j", "DROP")
        if down:
            run(*before(node), "iptables", *rule, HEAD, "-j", "DROP")
