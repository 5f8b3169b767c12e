"""Starting and stopping the two servers under test, on loopback addresses of their own.

Invariant: both get the same users, the same secrets and the same addresses to talk to;
each start is from nothing (no registrations, no messages).
"""

import csv
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DOMAIN = "bench.test"


class Net:
    """Who has which loopback address; `base` is three numbers, so several benches can run at once."""

    def __init__(self, base):
        self.base = base
        self.kamailio = f"{base}.1"
        self.sidetone = f"{base}.2"
        self.phones = f"{base}.10"      # registers, and is called at another port of this address
        self.caller = f"{base}.20"      # a trusted peer: calls and sends without a challenge
        self.loads = [self.phones, self.caller]

    def crowd(self, count):
        """Addresses of independent phones, none of them exempt from any limit."""
        first, second, third = (int(x) for x in self.base.split("."))
        return [f"{first}.{second}.{(third + 1 + i // 250) % 256}.{1 + i % 250}" for i in range(count)]


class Failed(Exception):
    """The server did not start; the text says why."""


class Server:
    """One server process tree. Subclasses give `command`, `prepare` and the name."""

    name = ""

    def __init__(self, host, net, workdir):
        self.host, self.net = host, net
        self.dir = os.path.join(workdir, self.name.lower())
        self.process = None

    def start(self, users):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.prepare(users)
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.dir, env=self.environment(), start_new_session=True)
        self._wait_until_it_answers()
        return self

    def environment(self):
        return dict(os.environ)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def _wait_until_it_answers(self):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        probe.bind((self.net.caller, 0))
        probe.settimeout(0.3)
        me = "%s:%d" % probe.getsockname()
        for attempt in range(100):
            if not self.alive():
                break
            probe.sendto(
                (f"OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {me};branch=z9hG4bKprobe{attempt}\r\n"
                 f"Max-Forwards: 70\r\nFrom: <sip:caller@{DOMAIN}>;tag=p\r\nTo: <sip:{DOMAIN}>\r\n"
                 f"Call-ID: probe{attempt}-{os.getpid()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
                 ).encode(), (self.host, 5060))
            try:
                if probe.recv(4096).startswith(b"SIP/2.0"):
                    probe.close()
                    time.sleep(0.5)
                    return
            except OSError:
                time.sleep(0.1)
        probe.close()
        tail = self.log_tail()
        self.stop()
        raise Failed(f"{self.name} does not answer on {self.host}:5060. Its log ends:\n{tail}")

    def log_tail(self, lines=15):
        with open(os.path.join(self.dir, "log"), errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def stop(self):
        if not self.process:
            return
        if self.alive():
            self.process.terminate()
        try:
            self.process.wait(8)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None


class Kamailio(Server):
    name = "Kamailio"
    CONFIG = "kamailio.cfg"

    def __init__(self, net, workdir, memory="qm"):
        super().__init__(net.kamailio, net, workdir)
        self.memory = memory

    def prepare(self, users):
        self.users = users
        self._users(users)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={DOMAIN}",
             "-keyout", os.path.join(self.dir, "key.pem"), "-out", os.path.join(self.dir, "cert.pem")],
            check=True, stderr=subprocess.DEVNULL)
        with open(os.path.join(HERE, self.CONFIG)) as template:
            text = template.read()
        # one bucket for each user, so that no lookup walks a chain
        size = max(14, (users - 1).bit_length())
        for key, value in (("DIR", self.dir), ("HOST", self.host), ("DOMAIN", DOMAIN), ("HASH", size),
                           ("FILES", min(40000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))):
            text = text.replace(f"@{key}@", str(value))
        with open(os.path.join(self.dir, "kamailio.cfg"), "w") as config:
            config.write(text)

    def _users(self, users):
        database = sqlite3.connect(os.path.join(self.dir, "users.db"))
        database.execute("create table version(id integer primary key, table_name text, table_version int)")
        database.execute("insert into version(table_name, table_version) values('htable', 2)")
        database.execute(
            "create table htable(id integer primary key, key_name text, key_type int default 0,"
            " value_type int default 0, key_value text, expires int default 0)")
        database.executemany(
            "insert into htable(key_name, key_value) values(?, ?)",
            ((name, secret) for name, secret in people(users)))
        database.commit()
        database.close()

    def command(self):
        # private memory is reserved, not resident; loading many users passes through it
        return ["kamailio", "-DD", "-E", "-x", self.memory, "-X", self.memory, "-m", "1024", "-M", "16" if self.users <= 10000 else "256",
                "-f", os.path.join(self.dir, "kamailio.cfg"), "-P", os.path.join(self.dir, "pid")]


class Sidetone(Server):
    name = "Sidetone"
    HTTPS, HTTP = 8443, 8080

    def __init__(self, net, workdir, binary):
        super().__init__(net.sidetone, net, workdir)
        self.binary = binary

    def prepare(self, users):
        host, exempt = self.host, ", ".join(f'"{a}/32"' for a in self.net.loads)
        with open(os.path.join(self.dir, "sidetone.toml"), "w") as config:
            config.write(f"""domain = "{DOMAIN}"
data = "{self.dir}/data"
[sip]
udp = ["{host}:5060"]
tcp = ["{host}:5060"]
tls = ["{host}:5061"]
routing = "proxy"
trusted = ["{self.net.caller}/32"]
[https]
listen = ["{host}:{self.HTTPS}"]
[limits]
exempt = [{exempt}]
""")
        table = os.path.join(self.dir, "users.csv")
        with open(table, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["address", "name", "profile", "sip_user", "sip_password"])
            rows.writerows([f"{name}@{DOMAIN}", name, "", name, secret] for name, secret in people(users))
        done = subprocess.run(
            [self.binary, "import", "users", table, "--config", os.path.join(self.dir, "sidetone.toml")],
            cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Failed(f"sidetone import users failed:\n{done.stdout[-2000:]}")

    def command(self):
        return [self.binary, "serve", "--config", os.path.join(self.dir, "sidetone.toml")]


def people(count):
    """User k is uK with the secret pK."""
    return ((f"u{k}", f"p{k}") for k in range(count))


def sidetone_binary():
    """SIDETONE_BIN, else the release binary of this workspace."""
    given = os.environ.get("SIDETONE_BIN")
    if given:
        return os.path.abspath(given)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", "sidetone")
