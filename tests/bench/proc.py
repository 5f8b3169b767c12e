"""What a server and its load cost: CPU and memory of whole process trees, from /proc.

Invariant: a figure counts every process and thread of the server, also those that
ended during the measurement, and nothing else.
"""

import os
import time

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


def tree(root):
    """The process ids of `root` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        parent = _stat(int(entry))
        if parent:
            children.setdefault(int(parent[1]), []).append(int(entry))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def _stat(pid):
    """Fields of /proc/PID/stat after the command name: state, parent, …; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
    except OSError:
        return None
    return text[text.rindex(")") + 2:].split()


def cpu_seconds(pids):
    """(precise, user, system) CPU seconds so far.

    The scheduler's nanoseconds are exact but forget threads that ended; user and
    system ticks remember them but count in hundredths. `precise` is the larger,
    less the rounding of the ticks.
    """
    exact = user = system = 0.0
    for pid in pids:
        fields = _stat(pid)
        if not fields:
            continue
        user += int(fields[11]) * TICK_S
        system += int(fields[12]) * TICK_S
        exact += _schedstat(pid)
    return exact, user, system


def _schedstat(pid):
    total = 0
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return 0.0
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[0])
        except (OSError, IndexError, ValueError):
            pass
    return total / 1e9


def resident_kb(pids):
    """Proportional resident memory: pages shared between processes count once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        except OSError:
            pass
    return total


def machine_busy_seconds():
    """CPU seconds that the whole machine was busy since it started (stolen time left out)."""
    with open("/proc/stat") as file:
        ticks = [int(x) for x in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) * TICK_S


class Meter:
    """Measures one server from construction to `stop`."""

    def __init__(self, server_pid):
        self.pids = tree(server_pid)
        self.server = cpu_seconds(self.pids)
        self.busy = machine_busy_seconds()
        self.started = time.monotonic()

    def stop(self, load_s):
        """`load_s`: CPU seconds that the load generators burnt meanwhile."""
        wall = time.monotonic() - self.started
        exact, user, system = (b - a for a, b in zip(self.server, cpu_seconds(self.pids)))
        busy = machine_busy_seconds() - self.busy
        cpu = max(exact, user + system - 2 * TICK_S * len(self.pids))
        other = max(0.0, busy - cpu - load_s)
        return {
            "wall_s": wall,
            "cpu_s": cpu,
            "user_s": user,
            "system_s": system,
            "load_s": load_s,
            "other_pct": 100.0 * other / (wall * CORES),
            "resident_kb": resident_kb(self.pids),
        }
