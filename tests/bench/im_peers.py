"""The XMPP servers that instant messages are measured against, from Debian's packages.

Invariant: each keeps its configuration and data in a folder of its own and listens at one loopback address.
"""

import os
import shutil
import signal
import socket
import subprocess
import time

import servers

PORT = 5222


class Peer:
    """A server of XMPP. Subclasses give `prepare` and `command`."""

    name = ""
    registers = False       # accounts are made in band before the first session

    def __init__(self, host, certificate, workdir):
        self.host, self.certificate = host, certificate
        self.dir = os.path.join(workdir, self.name.lower())
        self.process = None

    def start(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.prepare()
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.dir, env=self.environment(), start_new_session=True)
        for _ in range(150):
            try:
                socket.create_connection((self.host, PORT), 1).close()
                time.sleep(0.5)
                return self
            except OSError:
                time.sleep(0.2)
            if self.process.poll() is not None:
                break
        self.stop()
        with open(os.path.join(self.dir, "log"), errors="replace") as log:
            raise servers.Failed(f"{self.name} does not answer on {self.host}:{PORT}. Its log ends:\n{log.read()[-1500:]}")

    @property
    def pid(self):
        return self.process.pid

    def environment(self):
        return dict(os.environ)

    def stop(self):
        if not self.process:
            return
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(8)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None


class Prosody(Peer):
    name = "Prosody"
    registers = True

    def prepare(self):
        os.makedirs(os.path.join(self.dir, "data"))
        for name in ("cert.pem", "key.pem"):
            shutil.copy(os.path.join(self.certificate, name), self.dir)
        with open(os.path.join(self.dir, "prosody.cfg.lua"), "w") as config:
            config.write(f"""daemonize = false; run_as_root = true
pidfile = "{self.dir}/prosody.pid"; data_path = "{self.dir}/data"
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "register_ibr", "posix" }}
modules_disabled = {{ "s2s", "offline" }}
network_backend = "epoll"; authentication = "internal_plain"
allow_registration = true; min_seconds_between_registrations = 0
c2s_require_encryption = false; allow_unencrypted_plain_auth = true
interfaces = {{ "{self.host}" }}; c2s_ports = {{ {PORT} }}; limits = {{ }}
log = {{ {{ levels = {{ min = "warn" }}, to = "console" }} }}
VirtualHost "{servers.DOMAIN}"
  ssl = {{ key = "{self.dir}/key.pem"; certificate = "{self.dir}/cert.pem" }}
""")

    def command(self):
        return ["prosody", "--config", os.path.join(self.dir, "prosody.cfg.lua"), "-F"]


class Ejabberd(Peer):
    name = "ejabberd"

    def prepare(self):
        os.makedirs(os.path.join(self.dir, "mnesia"))
        with open(os.path.join(self.dir, "full.pem"), "w") as both:
            for name in ("cert.pem", "key.pem"):
                with open(os.path.join(self.certificate, name)) as part:
                    both.write(part.read())
        with open(os.path.join(self.dir, "ejabberd.yml"), "w") as config:
            config.write(f"""hosts: ["{servers.DOMAIN}"]
loglevel: warning
certfiles: ["{self.dir}/full.pem"]
listen:
  - {{port: {PORT}, ip: "{self.host}", module: ejabberd_c2s, max_stanza_size: 262144, starttls: true, access: all, shaper: none}}
auth_method: anonymous
anonymous_protocol: login_anon
allow_multiple_connections: true
modules:
  mod_roster: {{}}
  mod_disco: {{}}
  mod_ping: {{}}
""")

    def environment(self):
        code = self._code()
        return dict(os.environ, EJABBERD_CONFIG_PATH=os.path.join(self.dir, "ejabberd.yml"), HOME=self.dir,
                    EJABBERD_LOG_PATH=os.path.join(self.dir, "ejabberd.log"), ERL_EPMD_ADDRESS="127.0.0.1",
                    SPOOL_DIR=os.path.join(self.dir, "mnesia"), ERL_LIBS=os.path.dirname(os.path.dirname(code)))

    def command(self):
        return ["erl", "-noinput", "-pa", self._code(), "-mnesia", "dir", f'"{self.dir}/mnesia"', "+K", "true",
                "+P", "250000", "-s", "ejabberd"]

    @staticmethod
    def _code():
        listed = subprocess.run(["dpkg", "-L", "ejabberd"], stdout=subprocess.PIPE, text=True).stdout
        found = [line for line in listed.splitlines() if line.endswith("/ebin/ejabberd.app")]
        if not found:
            raise servers.Failed("the package ejabberd is not installed")
        return os.path.dirname(found[0])
