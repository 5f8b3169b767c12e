"""The UDP loads: sipp as callers and phones, measured against one server, with a probe beside
it for the response times.

Invariant: the load is open-loop (a fixed number of starts a second, whatever the server
does) and identical for every server.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time

import proc
from servers import DOMAIN, HERE, people

SCENARIOS = os.path.join(HERE, "scenarios")
CALLEE_PORT = 5090
PROBES_PER_S = 50
NOT_PROBED = {"ok": 0, "failed": 0, "retransmitted": 0, "times_ms": []}

# kind -> (scenario of the caller, scenario of the callee or None)
KINDS = {
    "register": ("register", None),
    "call": ("call-caller", "call-callee"),
    "message": ("message-sender", "message-receiver"),
}


def users_file(workdir, count):
    path = os.path.join(workdir, f"users-{count}.csv")
    if not os.path.exists(path):
        with open(path, "w") as file:
            file.write("SEQUENTIAL\n")
            file.writelines(f"{n};[authentication username={n} password={s}]\n" for n, s in people(count))
    return path


def common(scenario, address, port, workdir):
    return ["sipp", "-sf", os.path.join(SCENARIOS, f"{scenario}.xml"), "-t", "u1", "-i", address, "-p", str(port),
            "-nostdin", "-buff_size", "4000000", "-timer_resol", "1", "-key", "domain", DOMAIN,
            "-trace_stat", "-stf", os.path.join(workdir, f"{scenario}.csv"), "-fd", "1"]


def run(kind, server, rate, count, users, workdir, port=5080, steady=False):
    """Runs `count` units of work at `rate` a second; returns the figures of one measurement.

    `steady`: no probe, and `steady_per_s` is what was finished in each second of the load.
    """
    caller, callee = KINDS[kind]
    net = server.net
    with tempfile.TemporaryDirectory(dir=workdir) as here:
        phones = start_phones(callee, net, here) if callee else None
        command = common(caller, net.phones if kind == "register" else net.caller, port, here) + [
            f"{server.host}:5060", "-r", str(rate), "-m", str(count), "-l", "60000", "-recv_timeout", "8000",
            "-timeout", f"{int(count / rate) + 60}s", "-inf", users_file(workdir, users),
            "-key", "away", f"{net.phones}:{CALLEE_PORT}"]
        phones_before = proc.cpu_seconds([phones.pid])[0] if phones else 0.0
        measured = proc.Meter(server.pid)
        children = os.times()
        probe = None if steady else start_probe(kind, server, max(1.0, count / rate - 0.3), users)
        caller_process = subprocess.run(
            command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace")
        probed = json.loads(probe.communicate()[0]) if probe else NOT_PROBED
        last_answer_s = time.monotonic() - measured.started
        if kind == "message":
            time.sleep(0.3)     # a message may be delivered after it was acknowledged
        after = os.times()
        load = after.children_user + after.children_system - children.children_user - children.children_system
        if phones:
            load += proc.cpu_seconds([phones.pid])[0] - phones_before
        figures = measured.stop(load)
        delivered = stop_phones(phones, callee, here) if phones else None
        figures.update(caller_figures(here, caller, caller_process, probed))
        figures["delivered"] = delivered
        if steady:
            figures["steady_per_s"] = steady_rate(os.path.join(here, f"{caller}.csv"), count / rate)
        figures["per_s"] = figures["ok"] / last_answer_s
        figures["us"] = figures["cpu_s"] * 1e6 / max(1, figures["ok"])
        return figures


def start_probe(kind, server, seconds, users):
    net = server.net
    address = net.phones if kind == "register" else net.caller
    return subprocess.Popen(
        [sys.executable, os.path.join(HERE, "probe.py"), kind, server.host, str(PROBES_PER_S), f"{seconds:.2f}",
         str(users), f"{net.phones}:{CALLEE_PORT}", address],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def start_phones(scenario, net, workdir):
    process = subprocess.Popen(
        common(scenario, net.phones, CALLEE_PORT, workdir) + ["-deadcall_wait", "3000"],
        cwd=workdir, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.4)
    return process


def stop_phones(process, scenario, workdir):
    """Ends the callees and says how many calls or messages reached them."""
    time.sleep(1.1)     # their counts are written each second
    process.kill()
    process.wait()
    return int(last_row(os.path.join(workdir, f"{scenario}.csv")).get("SuccessfulCall(C)") or 0)


def caller_figures(workdir, scenario, process, probed):
    """Units of sipp and of the probe together: the server worked for both."""
    row = last_row(os.path.join(workdir, f"{scenario}.csv"))
    figures = {
        "ok": int(row.get("SuccessfulCall(C)") or 0) + probed["ok"],
        "failed": int(row.get("FailedCall(C)") or 0) + probed["failed"],
        "retransmitted": int(row.get("Retransmissions(C)") or 0) + probed["retransmitted"],
        "times_ms": sorted(probed["times_ms"]),
    }
    if figures["ok"] <= probed["ok"]:
        figures["error"] = process.stderr[-400:]
    return figures


def steady_rate(path, seconds):
    """Successes a second from the second second of the load to its end."""
    done = [(clock_s(r["ElapsedTime(C)"]), int(r["SuccessfulCall(C)"])) for r in rows(path)]
    inside = [(t, n) for t, n in done if 1.0 <= t <= seconds + 0.5]
    if len(inside) < 2:
        return 0.0
    (first, before), (last, after) = inside[0], inside[-1]
    return (after - before) / (last - first) if last > first else 0.0


def clock_s(text):
    """sipp's HH:MM:SS or HH:MM:SS:MICROSECONDS."""
    parts = [int(x) for x in text.split(":")]
    return parts[0] * 3600 + parts[1] * 60 + parts[2] + (parts[3] / 1e6 if len(parts) > 3 else 0)


def rows(path):
    try:
        with open(path, newline="") as file:
            return list(csv.DictReader(file, delimiter=";"))
    except OSError:
        return []


def last_row(path):
    found = rows(path)
    return found[-1] if found else {}


def quantile(ordered, part):
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else None
