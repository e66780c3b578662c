# SPDX-License-Identifier: Apache-2.0
#
# proxy.py: a TCP proxy that does to connections what networks and middleboxes do. Each
# connection gets a Fault of its own, from a list of them or made by a function of the
# connection's number; with none it passes everything on. Directions are UP (dialer to
# coordinator) and DOWN. Runs in the caller's asyncio loop.
import asyncio
import socket
import struct

UP, DOWN = 0, 1
READ_BYTES = 65536


class Fault:
    """What happens to one connection: at byte `at` of `direction`, `what`:
    rst, fin     both sides' connections end, abortively or not
    half         the receiver is told that nothing more comes; the other direction goes on
    freeze       nothing passes any more in `ways`, and nobody is told
    duplicate    a second connection to the server says all again that the first one said
                 to it until then, and ends after `answer_s`; the first one goes on
    delay_s is added to all bytes of (up, down)."""

    def __init__(self, what="", direction=UP, at=0, ways=(UP, DOWN), delay_s=(0, 0), answer_s=0.2):
        self.what, self.direction, self.at, self.ways = what, direction, at, ways
        self.delay_s, self.answer_s = delay_s, answer_s
        self.struck = False

    def __str__(self):
        side = ("up", "down")[self.direction]
        return f"{self.what or 'delay'} at byte {self.at} {side}, delays {self.delay_s}"


def reset_at_close(sock):
    if sock.fileno() >= 0:  # a side that has ended by itself has no socket any more
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Connection:
    def __init__(self, proxy, fault, dialer):
        self.proxy, self.fault, self.dialer, self.server = proxy, fault, dialer, None
        self.passed = [0, 0]
        self.said = bytearray()  # by the dialer, while it may have to be said again
        self.frozen = set()
        self.tasks = []

    async def run(self):
        try:
            self.server = await asyncio.open_connection(*self.proxy.server)
            self.tasks = [asyncio.ensure_future(self.pump(way)) for way in (UP, DOWN)]
            await asyncio.gather(*self.tasks)
        except (ConnectionError, OSError, asyncio.CancelledError):
            pass
        finally:
            self.end(abort=False)

    def end(self, abort):
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for _, writer in filter(None, (self.dialer, self.server)):
            if abort:
                reset_at_close(writer.get_extra_info("socket"))
                writer.transport.abort()
            else:
                writer.close()

    async def pump(self, way):
        """One direction, in order; what is read is written `delay_s` later, so a delay
        does not make the connection narrow."""
        reader = (self.dialer, self.server)[way][0]
        writer = (self.server, self.dialer)[way][1]
        late = asyncio.Queue()
        sender = asyncio.ensure_future(self.send_late(way, late, writer))
        self.tasks.append(sender)
        loop = asyncio.get_running_loop()
        while True:
            data = await reader.read(READ_BYTES)
            late.put_nowait((loop.time() + self.fault.delay_s[way], data))
            if not data:
                break
        await sender

    async def send_late(self, way, late, writer):
        loop = asyncio.get_running_loop()
        while True:
            due, data = await late.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                if way not in self.frozen:
                    writer.write_eof()
                return
            await self.forward(way, data, writer)

    async def forward(self, way, data, writer):
        fault = self.fault
        left = fault.at - self.passed[way]
        strikes = bool(fault.what) and not fault.struck and way == fault.direction and left <= len(data)
        before, after = (data[:left], data[left:]) if strikes else (data, b"")
        await self.write(way, before, writer)
        if strikes:
            fault.struck = True
            self.proxy.struck += 1
            if not await self.strike(way, writer):
                return
            await self.write(way, after, writer)

    async def write(self, way, data, writer):
        self.passed[way] += len(data)
        self.proxy.bytes_max[way] = max(self.proxy.bytes_max[way], self.passed[way])
        if way == UP and self.fault.what == "duplicate" and not self.fault.struck:
            self.said += data
        if way not in self.frozen and data:
            writer.write(data)
            await writer.drain()

    async def strike(self, way, writer):
        """False if nothing more of this direction is to be passed on."""
        what = self.fault.what
        if what in ("rst", "fin"):
            self.end(abort=what == "rst")
            raise asyncio.CancelledError
        if what == "half":
            self.frozen.add(way)  # what is read from now on is dropped
            writer.write_eof()
            return False
        if what == "freeze":
            self.frozen.update(self.fault.ways)
        if what == "duplicate":
            self.proxy.spawn(self.say_again(bytes(self.said)))
        return True

    async def say_again(self, said):
        reader, writer = await asyncio.open_connection(*self.proxy.server)
        try:
            writer.write(said)
            await writer.drain()
            await asyncio.wait_for(reader.read(-1), self.fault.answer_s)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        writer.close()


class Proxy:
    def __init__(self, server, faults=()):
        """server: (host, port). faults: a list, of which each connection takes the first,
        and gives it back if it ends before that struck; or a function of the connection's
        number (from 0)."""
        self.server = server
        self.faults = faults if callable(faults) else list(faults)
        self.connections, self.struck, self.bytes_max = 0, 0, [0, 0]
        self.open, self.background = set(), set()

    async def start(self):
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.address = "tcp://127.0.0.1:%d" % self.listener.sockets[0].getsockname()[1]
        return self

    def spawn(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    def next_fault(self):
        if callable(self.faults):
            return self.faults(self.connections - 1)
        return self.faults.pop(0) if self.faults else Fault()

    def give_back(self, fault):
        if fault.what and not fault.struck and not callable(self.faults):
            self.faults.insert(0, fault)

    async def accept(self, reader, writer):
        self.connections += 1
        connection = Connection(self, self.next_fault(), (reader, writer))
        self.open.add(connection)
        try:
            await connection.run()
        finally:
            self.open.discard(connection)
            self.give_back(connection.fault)

    def cut_all(self):
        for connection in list(self.open):
            connection.end(abort=True)

    async def stop(self):
        self.listener.close()
        self.cut_all()
        for task in list(self.background):
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
