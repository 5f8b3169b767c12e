"""Instant messages between two sessions: Sidetone's API beside Prosody and ejabberd, from Debian's packages.

Invariant: every server gets the same sessions, the same text and the same pace, in turn, in one run; Sidetone's
messages are on disk before they are acknowledged, those of the others are not.
"""

import asyncio
import base64
import json
import os
import resource
import shutil
import sqlite3
import ssl
import statistics
import subprocess
import tempfile
import time

import im_peers
import proc
import report
import servers
from im_sessions import Api, Tally, Xmpp

SESSIONS = 1000
# load -> TLS, messages a second, seconds
LOADS = {"im_1000": (False, 1000, 8), "im_tls_500": (True, 500, 8), "im_2000": (False, 2000, 8)}
TARGETS = {"im_1000": 0.5, "im_tls_500": 0.5, "session": 0.7, "session_tls": 0.7}
TOGETHER = 20
SIDETONE_ONLY = {"im_2000"}
LOG_EVENTS = 100_000


class Sidetone(servers.Sidetone):
    """With plain HTTP, for a comparison without TLS, and an access token for each person."""

    def __init__(self, net, workdir, binary):
        super().__init__(net, workdir, binary)
        self.tokens = []

    def prepare(self, users):
        super().prepare(users)
        path = os.path.join(self.dir, "sidetone.toml")
        with open(path) as file:
            text = file.read()
        text = text.replace("[https]\n", f'[https]\nhttp = ["{self.host}:{self.HTTP}"]\nhttp_anywhere = true\n')
        # a thousand people at one address are one source
        text = text.replace("exempt = [", 'exempt = ["127.0.0.1/32", ')
        with open(path, "w") as file:
            file.write(text)
        self._sign(users)

    def _sign(self, users):
        """Signing a thousand people in by password would be a measurement of argon2."""
        seed, self.tokens = os.urandom(32), []
        database = sqlite3.connect(os.path.join(self.dir, "data", "sidetone.db"))
        database.execute("INSERT INTO setting (key, value) VALUES ('web.token-key', ?)", (seed,))
        accounts = dict(database.execute("SELECT address, id FROM account"))
        database.commit()
        database.close()
        key, text = os.path.join(self.dir, "token.der"), os.path.join(self.dir, "token.txt")
        with open(key, "wb") as file:
            # RFC 8410 §7
            file.write(bytes.fromhex("302e020100300506032b657004220420") + seed)
        now = int(time.time())
        for number in range(users):
            address = f"u{number}@{servers.DOMAIN}"
            claims = {"iss": servers.DOMAIN, "aud": "sidetone-api", "sub": str(accounts[address]), "address": address,
                      "name": f"u{number}", "scope": "user", "iat": now, "exp": now + 3600, "jti": str(number)}
            signed = b".".join(_part(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "typ": "JWT"}, claims))
            with open(text, "wb") as file:
                file.write(signed)
            signature = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-in", text, "-inkey", key, "-keyform", "DER"],
                                       check=True, stdout=subprocess.PIPE).stdout
            self.tokens.append((signed + b"." + _part(signature)).decode())


def _part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


async def in_groups(work, together=TOGETHER):
    done = []
    for start in range(0, len(work), together):
        done += await asyncio.gather(*[make() for make in work[start:start + together]])
    return done


async def sessions(server, kind, tls, count, tally):
    """Opens them; what one costs the server in memory while it is idle."""
    people = [kind(server, number, tally, tls) for number in range(count)]
    if kind is Xmpp and server.registers:
        await in_groups([person.register for person in people])
    if kind is Api:
        # opened, used and idle again is what sessions are; a pair for each two
        await in_groups([lambda a=a, b=b: a.begin(b) for a, b in zip(people[::2], people[1::2])])
    await asyncio.sleep(1)
    pids = proc.tree(server.pid)
    before = proc.resident_kb(pids)
    await in_groups([person.open for person in people])
    await asyncio.sleep(2)
    return people, (proc.resident_kb(proc.tree(server.pid)) - before) / count


async def converse(server, people, rate, seconds, tally):
    """Each pair in turn; figures for one message from one session to the other."""
    count = rate * seconds
    meter, began_s, start = proc.Meter(server.pid), time.process_time(), time.time()
    for number in range(count):
        ahead = start + number / rate - time.time()
        if ahead > 0.001:
            await asyncio.sleep(ahead)
        elif number % 10 == 0:
            await asyncio.sleep(0)
        sender = (2 * number) % len(people)
        people[sender].say(people[sender + 1])
    limit = time.time() + 5
    while len(tally.times_ms) < count and time.time() < limit:
        await asyncio.sleep(0.01)
    figures = meter.stop(time.process_time() - began_s)
    done = len(tally.times_ms)
    figures.update(ok=done, failed=count - done, times_ms=tally.times_ms, per_s=done / figures["wall_s"],
                   us=figures["cpu_s"] * 1e6 / max(1, done))
    if tally.errors:
        figures["error"] = "; ".join(f"{why}: {times}" for why, times in list(tally.errors.items())[:3])
    return figures


async def measure(server, kind, tls, count, rate, seconds):
    tally = Tally()
    people, each_kib = await sessions(server, kind, tls, count, tally)
    figures = await converse(server, people, rate, seconds, tally)
    figures["session_kib"] = each_kib
    for person in people:
        person.task.cancel()
        person.writer.transport.abort()
    return figures


class Suite:
    def __init__(self, options):
        self.options = options
        self.workdir = options.workdir or tempfile.mkdtemp(prefix="sidetone-bench-")
        self.net = servers.Net(options.net)
        self.rounds = 1 if options.quick else 3
        self.count = options.sessions
        certificate(self.workdir)
        made = {"prosody": lambda: im_peers.Prosody(f"{options.net}.3", self.workdir, self.workdir),
                "ejabberd": lambda: im_peers.Ejabberd(f"{options.net}.4", self.workdir, self.workdir),
                "sidetone": lambda: Sidetone(self.net, self.workdir, servers.sidetone_binary())}
        self.servers = [made[name]() for name in options.servers.split(",")]
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE

    def run(self):
        results = {}
        for number in range(self.rounds):
            for key, (tls, rate, seconds) in LOADS.items():
                if self.options.only and not any(key.startswith(name) for name in self.options.only.split(",")):
                    continue
                order = self.servers if number % 2 == 0 else list(reversed(self.servers))
                for server in order:
                    if key in SIDETONE_ONLY and server.name != "Sidetone":
                        continue
                    figures = self._once(server, self.tls if tls else None, rate, seconds)
                    results.setdefault(key, {}).setdefault(server.name, []).append(figures)
                    report.measured(key, server.name, figures)
        return results

    def _once(self, server, tls, rate, seconds):
        kind = Api if server.name == "Sidetone" else Xmpp
        try:
            server.start(self.count) if kind is Api else server.start()
            return asyncio.run(measure(server, kind, tls, self.count, rate, seconds))
        except (RuntimeError, OSError, asyncio.TimeoutError) as error:
            raise servers.Failed(f"{server.name}: {error!r}") from error
        finally:
            server.stop()

    def log_page(self):
        """A conversation of many events: its last page, by a server that has not read it yet."""
        server = next((server for server in self.servers if server.name == "Sidetone"), None)
        if not server:
            return None
        server.start(2)
        try:
            conversation = asyncio.run(fill(server, LOG_EVENTS))
            server.process.terminate()
            server.process.wait(8)
            with open(os.path.join(server.dir, "log"), "ab") as log:
                server.process = subprocess.Popen(server.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                  cwd=server.dir, start_new_session=True)
            server._wait_until_it_answers()
            return asyncio.run(last_page(server, conversation))
        finally:
            server.stop()


async def fill(server, events):
    """Writes them through forty calls at a time."""
    writers = [Api(server, 0, Tally(), None) for _ in range(40)]
    await writers[0].begin(Api(server, 1, Tally(), None))
    conversation = writers[0].conversation
    await asyncio.gather(*[writer.connect() for writer in writers])

    async def write(writer):
        for number in range(events // len(writers)):
            await writer.call("POST", f"/api/v1/conversations/{conversation}/messages", {"text": f"event number {number}"})

    await asyncio.gather(*[write(writer) for writer in writers])
    return conversation


async def last_page(server, conversation):
    reader = Api(server, 0, Tally(), None)
    await reader.connect()
    await reader.call("GET", "/api/v1/me", None)
    before = proc.resident_kb(proc.tree(server.pid))
    began = time.perf_counter()
    page = await reader.call("GET", f"/api/v1/conversations/{conversation}/events", None)
    first_ms = (time.perf_counter() - began) * 1e3
    again = []
    for _ in range(20):
        began = time.perf_counter()
        await reader.call("GET", f"/api/v1/conversations/{conversation}/events", None)
        again.append((time.perf_counter() - began) * 1e3)
    return {"events": page[-1]["seq"], "page": len(page), "first_ms": round(first_ms, 1),
            "again_ms": round(statistics.median(again), 1), "grew_kib": proc.resident_kb(proc.tree(server.pid)) - before}


def certificate(folder):
    os.makedirs(folder, exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={servers.DOMAIN}",
                    "-keyout", os.path.join(folder, "key.pem"), "-out", os.path.join(folder, "cert.pem")],
                   check=True, stderr=subprocess.DEVNULL)
    # Prosody may run as a user of its own
    for name in ("key.pem", "cert.pem"):
        os.chmod(os.path.join(folder, name), 0o644)


def run(options):
    """All servers, every load; medians and ratios to Prosody."""
    from suite import machine, median
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = time.time()
    suite = Suite(options)
    try:
        results = suite.run()
        page = suite.log_page() if not options.only or "page" in options.only else None
    finally:
        if not options.workdir:
            shutil.rmtree(suite.workdir, ignore_errors=True)
    loads = {key: {name: median(rows) for name, rows in by.items()} for key, by in results.items()}
    memory = {}
    for key, by in results.items():
        kind = "session_tls" if LOADS[key][0] else "session"
        for name, rows in by.items():
            memory.setdefault(kind, {}).setdefault(name, []).extend(row["session_kib"] for row in rows)
    memory = {kind: {name: round(statistics.median(rows), 1) for name, rows in by.items()} for kind, by in memory.items()}
    ratios = {key: round(by["Sidetone"]["us"] / by["Prosody"]["us"], 3)
              for key, by in loads.items() if len(by.keys() & {"Sidetone", "Prosody"}) == 2}
    ratios.update({kind: round(by["Sidetone"] / by["Prosody"], 3)
                   for kind, by in memory.items() if len(by.keys() & {"Sidetone", "Prosody"}) == 2})
    return {"ratios": ratios, "loads": loads, "session_kib": memory, "log_page": page, "restarts": {},
            "rounds": suite.rounds, "machine": machine(), "seconds": round(time.time() - began)}
