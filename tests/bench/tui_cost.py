#!/usr/bin/env python3
"""Measure what a terminal program costs: CPU, memory, start-up time, bytes painted.

    tui_cost.py [--size 200x50] [--seconds 60] [--settle 3] [--ready REGEX]
                [--repeat N] [--name NAME] [--env K=V] COMMAND [ARG ...]

The command runs in a pane of a private tmux server with a client attached in a pty of
that size, as when somebody watches over SSH.  One JSON object is printed:

  cpu_pct               % of ONE core after the settle time: utime + stime of the command
                        and all its descendants, reaped ones included
  rss_mib               peak (4 samples a second) of that tree's resident memory; a page
                        shared by two processes counts twice
  first_frame_s         launch until `tmux capture-pane` shows a painted frame: at least
                        --lines non-blank lines, or a match of --ready
  bytes_per_min         what it writes to its terminal; start_bytes: before that window
  client_bytes_per_min  what tmux sends the client: SSH traffic when tmux is remote
  wakeups_per_s         voluntary context switches of all threads
  other_cpu_pct         CPU used by all else (100 = one core): if high, measure again

--repeat gives medians, and min and max in "spread".  A command that dies gives "exited"
and "error" (its last lines).  Exit status: 0 measured, 1 not measured, 2 bad arguments or
no tmux.  Needs Linux, tmux >= 3.0, Python >= 3.9 and nothing else.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
CONF = (
    "set -g status off\nset -g default-terminal tmux-256color\n"
    "set -g remain-on-exit on\nset -sg escape-time 0\nset -g history-limit 100\n"
)


def tree(root):
    """pid -> (ppid, ticks with reaped children, bytes) of root and its descendants."""
    table, found, todo = {}, {}, [root]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            f = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        table[int(pid)] = (int(f[1]), sum(map(int, f[11:15])), int(f[21]) * PAGE)
    while todo:
        pid = todo.pop()
        if pid in table and pid not in found:
            found[pid] = table[pid]
            todo += [p for p, row in table.items() if row[0] == pid]
    return found


def wakeups(pids):
    total = 0
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/status")):
        with contextlib.suppress(OSError, TypeError):
            total += int(re.search(r"^voluntary\w+:\s*(\d+)", path.read_text(), re.M)[1])
    return total


def attach(tmux, cols, rows, count):
    """Attach a tmux client in a pty; a thread drains it and adds what it gets to count[0]."""
    pid, fd = pty.fork()
    if pid == 0:
        time.sleep(0.2)  # the parent sets the size first
        os.execvpe(tmux[0], [*tmux, "attach"], {**os.environ, "TERM": "xterm-256color"})
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def drain():
        try:
            while data := os.read(fd, 65536):
                count[0] += len(data)
        except OSError:
            pass
        os.close(fd)
        os.waitpid(pid, 0)

    thread = threading.Thread(target=drain, daemon=True)
    thread.start()
    return thread


def measure(a):
    (cols, rows), client, count = a.size, None, [0]
    work = Path(tempfile.mkdtemp(prefix="tui_cost."))
    fifo, log, conf = work / "go", work / "log", work / "conf"
    os.mkfifo(fifo)
    log.touch()
    conf.write_text(CONF)
    base = ["tmux", "-u", "-S", str(work / "sock"), "-f", str(conf)]

    def tmux(*args):
        return subprocess.run(base + list(args), capture_output=True, text=True).stdout

    def failed(always=None):
        """The error report if the command is dead, or for the reason given."""
        state = tmux("display-message", "-p", "#{pane_dead}.#{pane_dead_status}").strip()
        if state.startswith("0") and not always:
            return None
        last = [
            x
            for x in tmux("capture-pane", "-p").split("\n")
            if x.strip() and "Pane is dead" not in x
        ]
        code = None if state.startswith("0") else state[2:] or "killed, or tmux died"
        return {"exited": code, "error": ([always] if always else []) + last[-8:]}

    try:
        env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "TMUX_PANE", "NO_COLOR")}
        env.update({"COLORTERM": "truecolor", "LANG": env.get("LANG", "C.UTF-8")}, **dict(a.env))
        command = ["sh", "-c", 'read _ <"$0"; exec "$@"', str(fifo), *a.command]
        place = ["new-session", "-d", "-x", str(cols), "-y", str(rows)]
        subprocess.run([*base, *place, *command], env=env, check=True)
        tmux("pipe-pane", "-O", f"exec cat >'{log}'")
        client = attach(base, cols, rows, count)
        time.sleep(0.8)  # the client is attached and the pane has its final size
        root = int(tmux("display-message", "-p", "#{pane_pid}"))
        start, first = time.monotonic(), None
        fifo.write_text("go\n")
        while first is None:
            screen = tmux("capture-pane", "-p")
            lines = sum(1 for line in screen.split("\n") if line.strip())
            if re.search(a.ready, screen) if a.ready else lines >= a.lines:
                first = time.monotonic() - start
            elif report := failed(
                time.monotonic() - start > a.timeout and f"no frame in {a.timeout:g} s"
            ):
                return report
            time.sleep(0.02)

        def now():
            part = tree(root)
            cpu = [int(n) for n in Path("/proc/stat").read_text().split()[1:8]]  # 3 idle, 4 iowait
            return (
                time.monotonic(),
                sum(row[1] for row in part.values()),
                log.stat().st_size,
                count[0],
                wakeups(part),
                sum(cpu) - cpu[3] - cpu[4],
            )

        peak, before, end = 0, None, time.monotonic() + a.settle
        while before is None or time.monotonic() < end:
            peak = max(peak, sum(row[2] for row in tree(root).values()))
            if before is None and time.monotonic() >= end:
                before = now()
                end = before[0] + a.seconds
            time.sleep(min(0.25, max(0.0, end - time.monotonic())))
        after = now()
        if report := failed():
            return report
        if a.keep_frame:
            Path(a.keep_frame).write_text(tmux("capture-pane", "-p"))
        span, ticks, wrote, sent, woke, busy = (y - x for x, y in zip(before, after, strict=True))
        return {
            "cpu_pct": round(100 * ticks / TICK / span, 2),
            "rss_mib": round(peak / 2**20, 1),
            "first_frame_s": round(first, 2),
            "bytes_per_min": round(wrote * 60 / span),
            "start_bytes": before[2],
            "client_bytes_per_min": round(sent * 60 / span),
            "wakeups_per_s": round(woke / span, 1),
            "other_cpu_pct": round(100 * max(0, busy - ticks) / TICK / span, 1),
        }
    finally:
        tmux("kill-server")
        if client:
            client.join(2)
        shutil.rmtree(work, ignore_errors=True)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    option = p.add_argument
    option("--size", default="200x50", help="COLSxROWS (200x50)")
    option("--seconds", type=float, default=60, help="length of the measured window (60)")
    option("--settle", type=float, default=3, help="seconds left out after the first frame (3)")
    option("--ready", help="regular expression that marks the first painted frame")
    option("--lines", type=int, default=5, help="non-blank lines that make a frame (5)")
    option("--timeout", type=float, default=30, help="seconds to wait for that frame (30)")
    option("--repeat", type=int, default=1, help="runs; medians are reported")
    option("--name", help="label in the output (the command's own name)")
    option("--env", action="append", default=[], metavar="K=V", help="set for the command")
    option("--keep-frame", metavar="FILE", help="write the last screen there as text")
    option("command", nargs=argparse.REMAINDER)
    a = p.parse_args()
    try:
        a.command = a.command[a.command[:1] == ["--"] :]
        a.size = tuple(int(n) for n in a.size.lower().split("x"))
        a.env = [tuple(e.split("=", 1)) for e in a.env]
        re.compile(a.ready or "")
        if not (
            a.command
            and len(a.size) == 2
            and min(a.size) > 0
            and a.seconds > 0 < a.repeat
            and all(len(e) == 2 for e in a.env)
        ):
            raise ValueError
    except (ValueError, re.error):
        p.error("no COMMAND, or a bad --size, --seconds, --repeat, --env or --ready")
    if not shutil.which("tmux"):
        p.error("tmux is not installed")
    runs = [measure(a) for _ in range(a.repeat)]
    good = [r for r in runs if "cpu_pct" in r]
    out = {
        "name": a.name or os.path.basename(a.command[0]),
        "size": "{}x{}".format(*a.size),
        "seconds": a.seconds,
    }
    out.update(
        {k: round(statistics.median(r[k] for r in good), 2) for k in good[0]} if good else runs[-1]
    )
    if len(good) > 1:
        out["spread"] = {k: [min(r[k] for r in good), max(r[k] for r in good)] for k in good[0]}
    if len(good) < a.repeat:
        out["failed_runs"] = a.repeat - len(good)
    print(json.dumps(out))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
