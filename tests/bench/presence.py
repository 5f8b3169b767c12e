"""CPU for each NOTIFY of presence: persons publish, watchers are told; the peer and Sidetone in turn.

Invariant: both servers get the same requests at the same pace: each person publishes every INTERVAL_S, because five
seconds are the least between two NOTIFYs of one subscription (RFC 3856 §6.10).
"""

import os
import random
import re
import socket
import sqlite3
import statistics
import tempfile
import threading
import time

import phone
import proc
import report
import servers

INTERVAL_S = 5.5
# watchers of each person, persons
FANS = [(10, 100), (100, 30)]
TARGETS = {"notify_10": 0.5, "notify_100": 0.5}
TABLES = """
create table presentity(id integer primary key, username text, domain text, event text, etag text, expires int,
  received_time int, body blob, sender text, priority int default 0, ruid text);
create table active_watchers(id integer primary key, presentity_uri text, watcher_username text, watcher_domain text,
  to_user text, to_domain text, event text default 'presence', event_id text, to_tag text, from_tag text, callid text,
  local_cseq int, remote_cseq int, contact text, record_route text, expires int, status int default 2, reason text,
  version int default 0, socket_info text, local_contact text, from_user text, from_domain text, updated int,
  updated_winfo int, flags int default 0, user_agent text default '');
create table watchers(id integer primary key, presentity_uri text, watcher_username text, watcher_domain text,
  event text default 'presence', status int, reason text, inserted_time int);
create table xcap(id integer primary key, username text, domain text, doc blob, doc_type int, etag text, source int,
  doc_uri text, port int);
"""
VERSIONS = {"presentity": 5, "active_watchers": 12, "watchers": 3, "xcap": 4}


class Peer(servers.Kamailio):
    CONFIG = "kamailio-presence.cfg"

    def prepare(self, users):
        super().prepare(users)
        database = sqlite3.connect(os.path.join(self.dir, "users.db"))
        database.executescript(TABLES)
        database.executemany("insert into version(table_name, table_version) values(?, ?)", VERSIONS.items())
        database.commit()
        database.close()


class Load:
    """One socket for all watchers, from a trusted address, and one for all persons, who authenticate."""

    def __init__(self, server):
        self.server = server
        self.watchers = self._socket(server.net.caller)
        self.persons = self._socket(server.net.phones)
        self.lock = threading.Condition()
        self.notified = 0
        self.accepted = 0
        self.times = []
        self.sent = {}
        self.answers = {}
        self.ended = False
        self.threads = [threading.Thread(target=self._watch, daemon=True),
                        threading.Thread(target=self._hear, daemon=True)]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _socket(address):
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        found.bind((address, 0))
        found.settimeout(0.2)
        return found

    def close(self):
        self.ended = True
        for thread in self.threads:
            thread.join()
        self.watchers.close()
        self.persons.close()

    def _received(self, which):
        while not self.ended:
            try:
                yield which.recvfrom(65536)
            except socket.timeout:
                pass

    def _watch(self):
        for data, source in self._received(self.watchers):
            message = phone.Message(data)
            if message.status:
                self.accepted += message.method == "SUBSCRIBE" and message.status == 200
                continue
            if message.method != "NOTIFY":
                continue
            self.watchers.sendto(phone.answer(message, 200, "OK", "<sip:w>"), source)
            mark = re.search(r"n(\d+)x", message.body)
            with self.lock:
                self.notified += 1
                if mark and int(mark.group(1)) in self.sent:
                    self.times.append((time.monotonic() - self.sent[int(mark.group(1))]) * 1e3)
                self.lock.notify_all()

    def _hear(self):
        for data, _ in self._received(self.persons):
            message = phone.Message(data)
            with self.lock:
                self.answers[(message.get("call-id"), message.get("cseq"))] = message
                self.lock.notify_all()

    def _ask(self, sender, secret, method, uri, call, extra, body=""):
        """A request with its challenge; the final answer."""
        credentials = ""
        for cseq in (1, 2):
            kind = "application/pidf+xml" if body else ""
            self.persons.sendto(sender.request(method, uri, call, cseq, f"<sip:{sender.user}@{servers.DOMAIN}>",
                                               credentials + extra, body, kind), (self.server.host, 5060))
            key = (call, f"{cseq} {method}")
            with self.lock:
                if not self.lock.wait_for(lambda: key in self.answers, 4):
                    raise RuntimeError(f"no answer to {method}")
                answer = self.answers.pop(key)
            if answer.status not in (401, 407):
                return answer
            proxy = answer.status == 407
            if proxy:
                answer.fields += [("www-authenticate", v) for v in answer.all("proxy-authenticate")]
            credentials = phone.credentials(answer, sender.user, secret, method, uri)
            if proxy:
                credentials = "Proxy-" + credentials
        raise RuntimeError(f"{method} is challenged again")

    def register(self, person):
        sender = self._sender(person)
        answer = self._ask(sender, f"p{person}", "REGISTER", f"sip:{servers.DOMAIN}", f"r{person}-{random.random()}",
                           "Expires: 3600\r\n")
        if answer.status != 200:
            raise RuntimeError(f"REGISTER: {answer.start}")

    def _sender(self, person):
        return phone.Sender("UDP", "%s:%d" % self.persons.getsockname(), f"u{person}")

    def subscribe(self, person, watcher):
        me = "%s:%d" % self.watchers.getsockname()
        uri = f"sip:u{person}@{servers.DOMAIN}"
        sender = phone.Sender("UDP", me, f"w{watcher}")
        self.watchers.sendto(sender.request(
            "SUBSCRIBE", uri, f"s{person}-{watcher}-{random.random()}", 1, f"<{uri}>",
            f"Contact: {sender.contact}\r\nEvent: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\n"),
            (self.server.host, 5060))

    def publish(self, person, number, etag):
        uri = f"sip:u{person}@{servers.DOMAIN}"
        body = ('<?xml version="1.0" encoding="UTF-8"?>\r\n<presence xmlns="urn:ietf:params:xml:ns:pidf" '
                f'entity="{uri}"><tuple id="t{person}"><status><basic>open</basic></status><contact>{uri}</contact>'
                f'<note>n{number}x</note></tuple></presence>\r\n')
        match = f"SIP-If-Match: {etag}\r\n" if etag else ""
        with self.lock:
            self.sent[number] = time.monotonic()
        answer = self._ask(self._sender(person), f"p{person}", "PUBLISH", uri, f"p{person}-{number}",
                           f"Event: presence\r\nExpires: 3600\r\n{match}", body)
        if answer.status != 200:
            raise RuntimeError(f"PUBLISH: {answer.start}")
        return answer.get("sip-etag")

    def told(self, count, limit_s):
        with self.lock:
            return self.lock.wait_for(lambda: self.notified >= count, limit_s)


def measure(server, watchers, persons, rounds):
    """One fan-out on a fresh server."""
    load = Load(server)
    try:
        etags = {}
        for person in range(persons):
            load.register(person)
            etags[person] = load.publish(person, person, None)
        for person in range(persons):
            for watcher in range(watchers):
                load.subscribe(person, watcher)
                time.sleep(0.001)
        if not load.told(persons * watchers, 10):
            raise RuntimeError(f"{load.notified} of {persons * watchers} first NOTIFYs")
        time.sleep(INTERVAL_S)
        before, number, began_s = load.notified, persons, time.process_time()
        load.times.clear()
        meter, start = proc.Meter(server.pid), time.monotonic()
        for turn in range(rounds * persons):
            pause = start + turn * INTERVAL_S / persons - time.monotonic()
            time.sleep(max(0.0, pause))
            person = turn % persons
            etags[person] = load.publish(person, number + turn, etags[person])
        expected = rounds * persons * watchers
        load.told(before + expected, INTERVAL_S + 1)
        figures = meter.stop(time.process_time() - began_s)
        done = load.notified - before
        figures.update(ok=done, failed=expected - done, times_ms=load.times, per_s=done / figures["wall_s"],
                       us=figures["cpu_s"] * 1e6 / max(1, done))
        return figures
    finally:
        load.close()


def run(options):
    """Both servers, every fan-out; medians and ratios."""
    from suite import machine, median
    began = time.time()
    net = servers.Net(options.net)
    workdir = options.workdir or tempfile.mkdtemp(prefix="sidetone-bench-")
    both = [Peer(net, workdir), servers.Sidetone(net, workdir, servers.sidetone_binary())]
    rounds, turns = (1, 2) if options.quick else (3, 4)
    results = {}
    for number in range(rounds):
        for watchers, persons in FANS:
            key = f"notify_{watchers}"
            for server in both if number % 2 == 0 else reversed(both):
                try:
                    server.start(persons)
                    figures = measure(server, watchers, persons, turns)
                except RuntimeError as error:
                    raise servers.Failed(f"{server.name}: {error}\n{server.log_tail()}") from error
                finally:
                    server.stop()
                results.setdefault(key, {}).setdefault(server.name, []).append(figures)
                report.measured(key, server.name, figures)
    loads = {key: {name: median(rows) for name, rows in by.items()} for key, by in results.items()}
    ratios = {key: round(by["Sidetone"]["us"] / by["Kamailio"]["us"], 3) for key, by in loads.items()}
    assert all(statistics.median(row["failed"] for row in rows) == 0
               for by in results.values() for rows in by.values()), "NOTIFYs are missing"
    return {"ratios": ratios, "loads": loads, "restarts": {}, "rounds": rounds, "machine": machine(),
            "seconds": round(time.time() - began)}
