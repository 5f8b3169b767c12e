"""What the bench prints: progress on standard error, tables on standard output.

Invariant: prints what was measured and judges only against the targets it is given.
"""

import sys


def progress(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def measured(key, name, figures):
    noise = "  (noisy)" if figures["other_pct"] > 10 else ""
    progress(f"{key:16} {name:9} {figures['us']:8.1f} µs  ok {figures['ok']}  failed {figures['failed']}"
             f"  other load {figures['other_pct']:.0f} %{noise}  {figures.get('error', '')}".rstrip())


def extra(section, name, found):
    progress(f"{section} {name}: {found}")


def table(summary, targets, peer="Kamailio"):
    loads = summary["loads"]
    machine = summary["machine"]
    print(f"\n{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, loopback; "
          f"medians of {summary['rounds']}; {summary['seconds']} s in all")
    if loads:
        print("server CPU per unit of work (user + system, all processes and threads); response times of the probe\n")
        print(f"{'load':16} {'server':9} {'µs/unit':>8} {'min–max':>15} {'units/s':>8} {'p50 ms':>7} {'p99 ms':>7} "
              f"{'MB':>6} {'failed':>6} {'other %':>7} {'ratio':>6} {'≤':>4}")
    for key, by_server in loads.items():
        for name, row in by_server.items():
            last = ""
            if name == "Sidetone" and key in summary["ratios"]:
                limit = targets.get(key, targets.get(key.split("_")[0]))
                last = f"{summary['ratios'][key]:6.2f} {limit if limit else '':>4}"
            print(f"{key:16} {name:9} {row['us']:8.1f} {row['us_min']:7.1f}–{row['us_max']:<7.1f} "
                  f"{row['per_s']:8.0f} {ms(row['p50_ms'])} {ms(row['p99_ms'])} {row['resident_mb']:6.0f} "
                  f"{row['failed']:6} {row['other_pct']:7.1f} {last}".rstrip())
            if row.get("error"):
                print(f"{'':16} {row['error'].strip()[:200]}")
            if row.get("undelivered"):
                print(f"{'':16} {row['undelivered']} of them not at the other phone when the load ended")
    sections(summary)
    for name, times in summary["restarts"].items():
        print(f"{name} ended or refused phones {times} times and was started again")
    verdict(summary["ratios"], targets, peer)


def ms(value):
    return f"{value:7.2f}" if value is not None else f"{'–':>7}"


def sections(summary):
    for name, found in summary.get("memory", {}).items():
        if "bytes" in found:
            print(f"memory           {name:9} {found['bytes']:8.0f} bytes a registered contact ({found['ok']} registered,"
                  f" {found['failed']} failed), {found['resident_kb'] / 1024:.0f} MB in all")
    for name, found in summary.get("connections", {}).items():
        for transport, row in found.items():
            if isinstance(row, dict):
                print(f"connections {transport:4} {name:9} {row['open']} of {row['asked']} open, {row['bytes'] / 1024:.1f} KiB each;"
                      f" served meanwhile: {row['udp_served']} of {row['of']} by UDP,"
                      f" {row['stream_served']} of {row['of']} new by {transport}")
    for name, found in summary.get("floods", {}).items():
        for kind, row in found.items():
            if isinstance(row, dict):
                print(f"flood {kind:10} {name:9} {row['sent_per_s']:.0f} packets/s: served {row['served_pct']:.1f} %,"
                      f" p50 {ms(row['p50_ms']).strip()} p99 {ms(row['p99_ms']).strip()} ms,"
                      f" {row['us']:.1f} µs a packet, memory {row['grew_mb']:+.0f} MB")
    for name, found in summary.get("overload", {}).items():
        if "kept_pct" in found:
            print(f"overload         {name:9} peak {found['peak_per_s']:.0f}/s in its CPU quota; offered"
                  f" {found['offered_per_s']:.0f}/s it did {found['goodput_per_s']:.0f}/s: {found['kept_pct']:.0f} % kept")
    for section in ("memory", "connections", "floods", "overload"):
        for name, found in summary.get(section, {}).items():
            if "error" in found:
                print(f"{section:16} {name:9} {found['error'].strip()}")


def messaging(summary):
    for kind, by_server in summary["session_kib"].items():
        each = ", ".join(f"{name} {kib:.1f} KiB" for name, kib in by_server.items())
        print(f"{kind:16} idle, resident: {each}")
    if page := summary["log_page"]:
        print(f"log page         {page['page']} last of {page['events']} events: {page['first_ms']} ms the first time,"
              f" {page['again_ms']} ms then; the server grew by {page['grew_kib']} KiB")


def verdict(ratios, targets, peer):
    for key, limit in targets.items():
        if key in ratios:
            print(f"{key:18} {ratios[key]:5.2f} × {peer}, wanted at most {limit}"
                  f"{'' if ratios[key] <= limit else '   MISSED'}")
