#!/usr/bin/env python3
"""The TCP and TLS loads (Debian's sipp has no TLS): units of work at a fixed rate over
connections that are already open, or the opening itself.

Invariant: what is measured starts at the line "go" on standard input and ends at the line
printed then; connecting and registering the phones come before the line "ready".

usage: streams.py WHAT HOST TCP|TLS RATE COUNT CONNECTIONS ADDRESS[,ADDRESS…]
WHAT: register   each connection is a user of its own; REGISTER 401 REGISTER 200
      message    even connections send to the user registered on the next odd one; MESSAGE 200
      call       likewise; INVITE 180 200 ACK BYE 200
      handshake  COUNT new connections, RATE a second, all kept until the end
      idle       CONNECTIONS are opened in the set-up; nothing is sent on them
"""

import asyncio
import json
import os
import random
import resource
import ssl
import sys
import time

from phone import DOMAIN, SDP, Message, Sender, answer, credentials

PORTS = {"TCP": 5060, "TLS": 5061}


class Connection:
    """One phone on one connection."""

    def __init__(self, number, load):
        self.number, self.load = number, load
        self.user, self.waiting, self.task = f"u{number}", {}, None

    async def open(self):
        source = self.load.addresses[self.number % len(self.load.addresses)]
        self.reader, self.writer = await asyncio.open_connection(
            self.load.host, PORTS[self.load.transport], ssl=self.load.tls, local_addr=(source, 0))
        self.sender = Sender(self.load.transport, "%s:%d" % self.writer.get_extra_info("sockname")[:2], self.user)
        return self

    def listen(self):
        self.task = asyncio.create_task(self._read())
        return self

    async def _read(self):
        held = b""
        try:
            while data := await self.reader.read(65536):
                held += data
                while (end := held.find(b"\r\n\r\n")) >= 0:
                    message = Message(held[:end + 4])
                    length = end + 4 + int(message.get("content-length") or 0)
                    if len(held) < length:
                        break
                    held = held[length:]
                    self._received(message)
        except (OSError, ssl.SSLError):
            pass

    def _received(self, message):
        if message.status >= 180:
            future = self.waiting.get((message.get("call-id"), message.get("cseq")))
            if future and not future.done() and message.status >= 200:
                future.set_result(message)
        elif message.method == "INVITE":
            self.writer.write(answer(message, 180, "Ringing", self.sender.contact)
                              + answer(message, 200, "OK", self.sender.contact, SDP))
        elif message.method and message.method != "ACK" and not message.status:
            self.writer.write(answer(message, 200, "OK", self.sender.contact))

    async def ask(self, data, call, cseq):
        future = asyncio.get_running_loop().create_future()
        self.waiting[(call, cseq)] = future
        self.writer.write(data)
        try:
            return await asyncio.wait_for(future, 8)
        finally:
            del self.waiting[(call, cseq)]

    async def register(self):
        call = f"r{random.getrandbits(64):x}"
        reply = await self.ask(self.sender.register(call, 1), call, "1 REGISTER")
        if reply.status == 401:
            line = credentials(reply, self.user, f"p{self.number}", "REGISTER", f"sip:{DOMAIN}")
            reply = await self.ask(self.sender.register(call, 2, line), call, "2 REGISTER")
        return reply.status == 200

    async def message(self, to):
        call = f"m{random.getrandbits(64):x}"
        return (await self.ask(self.sender.message(call, to), call, "1 MESSAGE")).status == 200

    async def call(self, to):
        call = f"c{random.getrandbits(64):x}"
        reply = await self.ask(self.sender.invite(call, to), call, "1 INVITE")
        if reply.status != 200:
            return False
        self.writer.write(self.sender.within(reply, "ACK", 1))
        await asyncio.sleep(0.1)
        return (await self.ask(self.sender.within(reply, "BYE", 2), call, "2 BYE")).status == 200


class Load:
    def __init__(self, what, host, transport, rate, count, connections, addresses):
        self.what, self.host, self.transport = what, host, transport
        self.rate, self.count, self.addresses = rate, count, addresses
        self.tls = None
        if transport == "TLS":
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.tls.check_hostname = False
            self.tls.verify_mode = ssl.CERT_NONE
        self.opened = [Connection(i, self) for i in range(connections)]
        self.ok, self.failed, self.refused, self.times, self.errors = 0, 0, 0, [], {}

    async def prepare(self):
        # COMPAT(Kamailio 5.6): many handshakes at once make its workers overwrite shared memory
        together = 2 if self.tls else 20
        for start in range(0, len(self.opened), together):
            done = await asyncio.gather(*[asyncio.wait_for(c.open(), 10) for c in self.opened[start:start + together]],
                                        return_exceptions=True)
            refused = [d for d in done if isinstance(d, BaseException)]
            self.refused += len(refused)
            if refused and (self.what != "idle" or self.refused > 200):
                if self.what == "idle":
                    return      # how many are open is counted on the server's side
                raise refused[0]
        if self.what == "idle":
            return
        for start in range(0, len(self.opened), 20):
            done = await asyncio.gather(*[c.listen().register() for c in self.opened[start:start + 20]])
            if not all(done):
                raise SystemExit("a phone could not register")

    async def run(self):
        begin, tasks = time.perf_counter(), []
        for i in range(self.count):
            late = begin + i / self.rate - time.perf_counter()
            if late > 0.001:
                await asyncio.sleep(late)
            elif i % 20 == 0:
                await asyncio.sleep(0)
            tasks.append(asyncio.create_task(self._unit(i)))
        await asyncio.gather(*tasks)
        self.times.sort()

    async def _unit(self, i):
        started = time.perf_counter()
        try:
            good = await self._work(i)
        except (OSError, ssl.SSLError, asyncio.TimeoutError, AttributeError, KeyError, IndexError) as error:
            good = False
            name = type(error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1
        if good:
            self.ok += 1
            self.times.append((time.perf_counter() - started) * 1e3)
        else:
            self.failed += 1

    async def _work(self, i):
        if self.what == "handshake":
            self.opened.append(await Connection(i, self).open())
            return True
        if self.what == "register":
            return await self.opened[i % len(self.opened)].register()
        sender, receiver = self.opened[2 * i % len(self.opened)], f"u{(2 * i + 1) % len(self.opened)}"
        return await (sender.call if self.what == "call" else sender.message)(receiver)


async def main():
    what, host, transport, rate, count, connections, addresses = sys.argv[1:8]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(what, host, transport, float(rate), int(count), int(connections), addresses.split(","))
    await load.prepare()
    loop = asyncio.get_running_loop()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    before = time.process_time()
    await load.run()
    print(json.dumps({
        "ok": load.ok, "failed": load.failed, "errors": load.errors, "times_ms": [round(t, 3) for t in load.times],
        "load_s": time.process_time() - before}), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    os._exit(0)     # thousands of orderly closings serve nobody


if __name__ == "__main__":
    asyncio.run(main())
