"""The sessions of the load: a person at an XMPP server, and a person at Sidetone's API.

Invariant: both write the same text at the same pace, and count a message when the other one has it.
"""

import asyncio
import base64
import json
import os
import re
import time

import servers

TEXT = "Hello, this is an instant message of a hundred bytes or so, as a person would write one to another."
MARK = re.compile(rb"\|(\d+\.\d+)\|")


class Tally:
    """What arrived, and how long after it was sent."""

    def __init__(self):
        self.times_ms, self.errors = [], {}

    def heard(self, data):
        now = time.time()
        for mark in MARK.finditer(data):
            self.times_ms.append((now - float(mark.group(1))) * 1e3)

    def failed(self, why):
        self.errors[why] = self.errors.get(why, 0) + 1


def text():
    return f"|{time.time():.6f}| {TEXT}"


class Xmpp:
    """SASL PLAIN, one resource, available (RFC 6120, RFC 6121)."""

    def __init__(self, server, number, tally, tls):
        self.server, self.number, self.tally, self.tls = server, number, tally, tls
        self.held, self.task = b"", None

    async def _until(self, pattern, limit_s=20):
        while not (found := re.search(pattern, self.held, re.S)):
            data = await asyncio.wait_for(self.reader.read(65536), limit_s)
            if not data:
                raise RuntimeError(f"{self.server.name} closed: {self.held[-200:]!r}")
            self.held += data
        self.held = self.held[found.end():]
        return found

    async def _stream(self):
        self.writer.write((f"<?xml version='1.0'?><stream:stream to='{servers.DOMAIN}' xmlns='jabber:client' "
                           "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>").encode())
        await self._until(rb"</stream:features>")

    async def connect(self):
        from im_peers import PORT
        self.reader, self.writer = await asyncio.open_connection(self.server.host, PORT)
        await self._stream()
        if self.tls:
            self.writer.write(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            await self._until(rb"<proceed[^>]*>")
            await self.writer.start_tls(self.tls, server_hostname=servers.DOMAIN)
            await self._stream()

    async def register(self):
        """In band (XEP-0077), on a connection of its own."""
        await self.connect()
        self.writer.write((f"<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>u{self.number}</username>"
                           f"<password>p{self.number}</password></query></iq>").encode())
        await self._until(rb"<iq [^>]*?(/>|</iq>)")
        self.writer.close()
        self.held = b""

    async def open(self):
        await self.connect()
        secret = base64.b64encode(f"\0u{self.number}\0p{self.number}".encode()).decode()
        self.writer.write(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>".encode())
        if (await self._until(rb"<(success|failure)[^>]*?(/>|>)")).group(1) != b"success":
            raise RuntimeError(f"{self.server.name} refuses to sign in")
        await self._stream()
        self.writer.write(b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource>"
                          b"</bind></iq>")
        await self._until(rb"<iq .*?</iq>")
        self.writer.write(b"<presence/>")
        self.task = asyncio.create_task(self._listen())
        return self

    async def _listen(self):
        try:
            while data := await self.reader.read(65536):
                self.held += data
                end = self.held.rfind(b"</message>") + 10
                if end >= 10:
                    self.tally.heard(self.held[:end])
                    self.held = self.held[end:]
                self.held = self.held[-4096:]
        except ConnectionError:
            self.tally.failed("connection lost")

    def say(self, other):
        self.writer.write((f"<message to='u{other.number}@{servers.DOMAIN}/r' type='chat' id='m{time.monotonic_ns()}'>"
                           f"<body>{text()}</body></message>").encode())


class Api:
    """The WebSocket /api/v1/events, on which one listens and speaks."""

    def __init__(self, server, number, tally, tls):
        self.server, self.number, self.tally, self.tls = server, number, tally, tls
        self.held, self.task, self.conversation = b"", None, None

    async def connect(self):
        port = servers.Sidetone.HTTPS if self.tls else servers.Sidetone.HTTP
        name = servers.DOMAIN if self.tls else None
        self.reader, self.writer = await asyncio.open_connection(self.server.host, port, ssl=self.tls, server_hostname=name)

    def _head(self, method, path, more):
        return (f"{method} {path} HTTP/1.1\r\nHost: {servers.DOMAIN}\r\n"
                f"Authorization: Bearer {self.server.tokens[self.number]}\r\n{more}\r\n").encode()

    async def call(self, method, path, body):
        """One call on the connection, which stays open; the JSON of the answer."""
        data = json.dumps(body).encode() if body is not None else b""
        self.writer.write(self._head(method, path, f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n") + data)
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
        length = int(re.search(r"content-length: (\d+)", head).group(1))
        answer = await self.reader.readexactly(length)
        if head.split()[1] not in ("200", "201"):
            raise RuntimeError(f"{method} {path}: {head.splitlines()[0]} {answer.decode()}")
        return json.loads(answer)

    async def begin(self, other):
        await self.connect()
        begun = await self.call("POST", "/api/v1/conversations", {"members": [f"u{other.number}@{servers.DOMAIN}"]})
        self.conversation = begun["id"]
        self.writer.close()

    async def open(self):
        await self.connect()
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(self._head("GET", "/api/v1/events", "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                                     f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                                     "Sec-WebSocket-Protocol: sidetone\r\n"))
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"Sidetone refuses a session: {head[:200]!r}")
        self.task = asyncio.create_task(self._listen())
        return self

    async def _listen(self):
        """Frames of the server, unmasked (RFC 6455 §5.2)."""
        try:
            while data := await self.reader.read(65536):
                self.held += data
                while (size := self._frame()) and len(self.held) >= sum(size):
                    head, length = size
                    self._heard(self.held[0] & 15, self.held[head:head + length])
                    self.held = self.held[head + length:]
        except ConnectionError:
            self.tally.failed("connection lost")

    def _frame(self):
        if len(self.held) < 4:
            return (2, self.held[1]) if len(self.held) >= 2 and self.held[1] < 126 else None
        length = self.held[1] & 127
        return (4, int.from_bytes(self.held[2:4], "big")) if length == 126 else (2, length)

    def _heard(self, kind, payload):
        if kind == 9:
            self._send(10, payload)
        elif payload.startswith(b'{"type":"event"'):
            # one's own message comes as well, and is not counted
            if self.number % 2:
                self.tally.heard(payload)
        elif payload.startswith(b'{"type":"refused"'):
            self.tally.failed(payload.decode(errors="replace")[:200])

    def _send(self, kind, payload):
        length = len(payload)
        size = bytes([0x80 | length]) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        # a mask of zeros is a mask
        self.writer.write(bytes([0x80 | kind]) + size + b"\0\0\0\0" + payload)

    def say(self, _other):
        ask = {"type": "say", "conversation": self.conversation, "text": text()}
        self._send(1, json.dumps(ask).encode())
