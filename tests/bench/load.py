"""One measurement of each other sort of load: streams, floods, registrations in bulk, overload.

Invariant: every function measures one running server and returns plain figures; deciding
how often, in which order and what they mean is `suite`'s.
"""

import json
import os
import subprocess
import sys
import time

import proc
import sipp
from servers import HERE


class StreamLoad:
    """A `streams.py` child that has connected its phones and waits."""

    def __init__(self, what, server, transport, rate, count, connections, addresses):
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "streams.py"), what, server.host, transport, str(rate), str(count),
             str(connections), ",".join(addresses)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{what} over {transport}: " + self.process.communicate()[1][-400:])

    def run(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def stream(what, server, transport, rate, count, connections=100, addresses=None):
    load = StreamLoad(what, server, transport, rate, count, connections, addresses or [server.net.phones])
    time.sleep(0.3)
    meter = proc.Meter(server.pid)
    done = load.run()
    figures = meter.stop(done.pop("load_s"))
    load.close()
    figures.update(done)
    figures["per_s"] = figures["ok"] / figures["wall_s"]
    figures["us"] = figures["cpu_s"] * 1e6 / max(1, figures["ok"])
    return figures


def bytes_per_contact(server, users, rate, workdir):
    """Registers `users` addresses; what each added to the server's resident memory."""
    before = proc.resident_kb(proc.tree(server.pid))
    done = sipp.run("register", server, rate, users, users, workdir)
    time.sleep(2.0)     # what is written behind has been written
    after = proc.resident_kb(proc.tree(server.pid))
    return {"ok": done["ok"], "failed": done["failed"], "bytes": (after - before) * 1024 / users, "resident_kb": after}


def idle_connections(server, transport, count):
    """Opens idle connections from many sources; memory of each, and who is still served."""
    before = proc.resident_kb(proc.tree(server.pid))
    started = time.monotonic()
    held = StreamLoad("idle", server, transport, 1, 0, count, server.net.crowd(100))
    seconds = time.monotonic() - started
    open_now = established(server.host)
    resident = proc.resident_kb(proc.tree(server.pid))
    # the new users come from addresses of their own
    newcomers = server.net.crowd(140)[100:]
    udp = probe("register", server, 20, 1.0, 20, newcomers[:20])
    stream_users = 0
    try:
        done = stream("register", server, transport, 20, 20, connections=20, addresses=newcomers[20:])
        stream_users = done["ok"]
    except RuntimeError:
        pass
    held.close()
    return {"asked": count, "open": open_now, "bytes": (resident - before) * 1024 / max(1, open_now),
            "seconds": seconds, "udp_served": udp["ok"], "stream_served": stream_users, "of": 20}


def established(host):
    """TCP connections that the kernel holds open on the server's side."""
    address = "".join(f"{int(x):02X}" for x in reversed(host.split(".")))
    ours = {f"{address}:{port:04X}" for port in (5060, 5061)}
    with open("/proc/net/tcp") as table:
        rows = (line.split() for line in table)
        return sum(1 for row in rows if row[1] in ours and row[3] == "01")


def probe(kind, server, rate, seconds, users, addresses):
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, "probe.py"), kind, server.host, str(rate), str(seconds), str(users),
         f"{server.net.phones}:{sipp.CALLEE_PORT}", ",".join(addresses)], stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def flood(kind, server, rate, seconds, users):
    """Legitimate registrations of a hundred phones while a stranger floods the server."""
    net = server.net
    before = proc.resident_kb(proc.tree(server.pid))
    meter = proc.Meter(server.pid)
    attack = subprocess.Popen(
        [sys.executable, os.path.join(HERE, "flood.py"), kind, server.host, f"{net.base}.66", str(rate),
         str(seconds), str(users)], stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    done = probe("register", server, 50, max(1.0, seconds - 1.5), users, net.crowd(100))
    sent = json.loads(attack.communicate()[0])
    figures = meter.stop(0.0)
    times = sorted(done["times_ms"])
    after = proc.resident_kb(proc.tree(server.pid))
    return {"sent_per_s": sent["sent"] / sent["seconds"], "asked": done["units"],
            "served_pct": 100.0 * done["ok"] / max(1, done["units"]),
            "p50_ms": sipp.quantile(times, 0.50), "p99_ms": sipp.quantile(times, 0.99),
            "grew_mb": (after - before) / 1024, "us": figures["cpu_s"] * 1e6 / sent["sent"]}


class Quota:
    """A CPU quota for the server alone (a control group of ours), so that a load generator on
    the same machine can offer it more than it can do."""

    def __init__(self, share):
        self.share = share
        name = f"sidetone-bench-{os.getpid()}"
        v1 = "/sys/fs/cgroup/cpu"
        self.path = os.path.join(v1 if os.path.isdir(v1) else "/sys/fs/cgroup", name)
        self.limits = {"cpu.cfs_period_us": "10000", "cpu.cfs_quota_us": str(int(10000 * share))} \
            if os.path.isdir(v1) else {"cpu.max": f"{int(10000 * share)} 10000"}

    def apply(self, pids):
        """True when the quota holds; False where this machine gives us no control group."""
        try:
            os.makedirs(self.path, exist_ok=True)
            for name, value in self.limits.items():
                self._write(name, value)
            for pid in pids:
                self._write("cgroup.procs", str(pid))
            return True
        except OSError:
            return False

    def _write(self, name, value):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(value)

    def remove(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


def overload(server, unit_us, users, workdir, seconds, share=0.2):
    """Goodput at the capacity and at twice the capacity, in registrations a second.

    The search starts under what the quota should pay for at the cost measured before, and
    offers a quarter more each time until the server no longer keeps up.
    """
    quota = Quota(share)
    if not quota.apply(proc.tree(server.pid)):
        return {"error": "no control group to set a CPU quota with"}
    offered, peak = share * 0.7e6 / unit_us, 0.0
    for _ in range(10):
        done = goodput(server, int(offered), seconds, users, workdir)
        peak = max(peak, done)
        if done < 0.9 * offered:
            break
        offered *= 1.25
    twice = goodput(server, int(2 * peak), seconds * 2, users, workdir)
    return {"peak_per_s": peak, "offered_per_s": 2 * peak, "goodput_per_s": twice, "kept_pct": 100.0 * twice / peak,
            "quota": quota}


def goodput(server, rate, seconds, users, workdir):
    """Units finished a second while the load is on; the last of them may be cut off."""
    count = int(rate * seconds)
    done = sipp.run("register", server, rate, count, users, workdir, steady=True)
    return done["steady_per_s"]
