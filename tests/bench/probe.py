#!/usr/bin/env python3
"""Times the same exchanges as the load, a few a second beside it, with a clock that sipp lacks
(sipp's response times come in steps of the kernel's tick, 4 ms).

Invariant: open-loop. A unit starts at its time whether or not earlier ones were answered, so a
stalled server shows in the quantiles.

usage: probe.py KIND HOST RATE SECONDS USERS CONTACT ADDRESS[,ADDRESS…]
KIND is register, call or message; prints one JSON line. The time of a registration is REGISTER
to 200 (both round trips), of a call INVITE to 180, of a message MESSAGE to 200.
"""

import heapq
import json
import os
import random
import selectors
import socket
import sys
import time

from phone import DOMAIN, Message, Sender, credentials

GIVE_UP_S = 8.0


class Unit:
    """One exchange under way."""

    def __init__(self, sock, call, user, secret, sender, started):
        self.sock, self.call, self.user, self.secret = sock, call, user, secret
        self.sender, self.started = sender, started
        self.sent = b""
        self.rang = False
        self.interval = 0.5


class Probe:
    def __init__(self, kind, host, users, contact, addresses):
        self.kind, self.target, self.users = kind, (host, 5060), users
        self.contact = f"{contact}"
        self.selector = selectors.DefaultSelector()
        self.sockets = [self._socket(a) for a in addresses]
        self.units, self.timers, self.times = {}, [], []
        self.started = self.failed = self.retransmitted = 0
        self.planned = set()    # calls whose waiting datagram was not sent before
        self.statuses = {}
        self.mark = f"{os.getpid():x}{random.getrandbits(24):x}"

    def _socket(self, address):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, 0))
        sock.setblocking(False)
        self.selector.register(sock, selectors.EVENT_READ)
        return sock

    def run(self, rate, seconds):
        begin = time.perf_counter()
        total = int(rate * seconds)
        while True:
            now = time.perf_counter()
            while self.started < total and begin + self.started / rate <= now:
                self._start(now)
            self._expire(now)
            if self.started == total and not self.units:
                return
            due = begin + self.started / rate if self.started < total else now + 1.0
            if self.timers:
                due = min(due, self.timers[0][0])
            for key, _ in self.selector.select(max(0.0, due - time.perf_counter())):
                self._receive(key.fileobj)

    def _start(self, now):
        k = random.randrange(self.users)
        sock = self.sockets[self.started % len(self.sockets)]
        call = f"probe{self.mark}{self.started}"
        user = f"u{k}" if self.kind == "register" else "caller"
        address = "%s:%d" % sock.getsockname()
        sender = Sender("UDP", address, user, f"<sip:{user}@{self.contact}>" if self.kind == "register" else None)
        unit = self.units[call] = Unit(sock, call, user, f"p{k}", sender, now)
        self.started += 1
        if self.kind == "register":
            self._send(unit, sender.register(call, 1))
        elif self.kind == "call":
            self._send(unit, sender.invite(call, f"u{k}"))
        else:
            self._send(unit, sender.message(call, f"u{k}"))

    def _send(self, unit, data):
        unit.sent, unit.interval = data, 0.5
        self._transmit(unit)
        heapq.heappush(self.timers, (time.perf_counter() + 0.5, unit.call, data))

    def _transmit(self, unit):
        try:
            unit.sock.sendto(unit.sent, self.target)
        except OSError:
            pass    # a full buffer is a lost datagram

    def _expire(self, now):
        while self.timers and self.timers[0][0] <= now:
            _, call, data = heapq.heappop(self.timers)
            unit = self.units.get(call)
            if not unit or unit.sent is not data:
                continue
            if now - unit.started > GIVE_UP_S:
                del self.units[call]
                self.failed += 1
                continue
            if call in self.planned:
                self.planned.discard(call)
            else:
                self.retransmitted += 1
                unit.interval *= 2
            self._transmit(unit)
            heapq.heappush(self.timers, (now + unit.interval, call, data))

    def _receive(self, sock):
        for _ in range(64):
            try:
                data = sock.recv(65536)
            except OSError:
                return
            now = time.perf_counter()
            message = Message(data)
            unit = self.units.get(message.get("call-id"))
            if unit and message.status == 180 and not unit.rang:
                unit.rang = True
                self.times.append((now - unit.started) * 1e3)
            elif unit and message.status >= 200:
                self._answered(unit, message, now)

    def _answered(self, unit, message, now):
        if message.status == 401 and message.method == "REGISTER" and message.get("cseq").startswith("1 "):
            line = credentials(message, unit.user, unit.secret, "REGISTER", f"sip:{DOMAIN}")
            self._send(unit, unit.sender.register(unit.call, 2, line))
            return
        if message.status == 200 and message.method == "INVITE":
            if message.get("cseq").startswith("1 ") and unit.sent.startswith(b"INVITE"):
                unit.sock.sendto(unit.sender.within(message, "ACK", 1), self.target)
                # the callee must have seen the ACK first: the proxy may reorder the two
                unit.sent = unit.sender.within(message, "BYE", 2)
                heapq.heappush(self.timers, (now + 0.1, unit.call, unit.sent))
                self.planned.add(unit.call)
            return
        del self.units[unit.call]
        self.statuses[message.status] = self.statuses.get(message.status, 0) + 1
        if message.status != 200:
            self.failed += 1
        elif self.kind != "call":
            self.times.append((now - unit.started) * 1e3)


def main():
    kind, host, rate, seconds, users, contact, addresses = sys.argv[1:8]
    probe = Probe(kind, host, int(users), contact, addresses.split(","))
    probe.run(float(rate), float(seconds))
    print(json.dumps({
        "units": probe.started, "ok": probe.started - probe.failed, "failed": probe.failed,
        "retransmitted": probe.retransmitted, "statuses": probe.statuses,
        "times_ms": [round(t, 3) for t in probe.times]}))


if __name__ == "__main__":
    main()
