# SPDX-License-Identifier: Apache-2.0
"""What the bench is made of: the table, the processes with what they use, the daemon and its other side."""

import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DHASH_BUILD", ROOT / "build")).resolve()
START_TIMEOUT = 60

children = []   # every process that was started here, and no other, is ended at the end
rows = []       # the table
busy_loops = []


# --- the table ---

def number(value, unit):
    if unit == "":
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def row(figure, values, unit, peer=None, peer_values=None, ratio=None, note=""):
    """A line: the median of the values with their spread; beside it a peer's, and the ratio."""
    values = values if isinstance(values, list) else [values]
    spread = f"{number(min(values), unit)} … {number(max(values), unit)}" if len(values) > 1 else ""
    beside = ""
    if peer_values:
        middle = statistics.median(peer_values)
        ratio = statistics.median(values) / middle if ratio is None and middle else ratio
        beside = f"{peer} {number(middle, unit)}"
    rows.append((figure, number(statistics.median(values), unit), spread, beside,
                 f"{ratio:.2f}" if ratio is not None else "", note))
    print(f"  {figure}: {rows[-1][1]} {beside and '| ' + beside} {note}", flush=True)


def head(title):
    rows.append((title,))
    print(f"{title} …", flush=True)
    busy_loop()


def print_table():
    cells = [r for r in rows if len(r) > 1]
    widths = [max(len(r[i]) for r in cells) for i in range(5)]
    print("\n" + "  ".join(t.ljust(w) for t, w in
                           zip(("figure", "median", "spread", "beside", "ratio"), widths)))
    for r in rows:
        if len(r) == 1:
            print(f"-- {r[0]}")
        else:
            print("  ".join([c.ljust(w) for c, w in zip(r, widths)] + [r[5]]).rstrip())


def busy_loop():
    """The same work each time: its spread is the machine's noise."""
    data, crc = bytes(1 << 20), 0
    began = time.perf_counter()
    for _ in range(200):
        crc = zlib.crc32(data, crc)
    busy_loops.append((time.perf_counter() - began) * 1000)


# --- processes ---

def spawn(argv, **popen):
    process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, **popen)
    children.append(process)
    return process


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    children.remove(process)


def wait_for(probe, what, timeout=START_TIMEOUT):
    deadline = time.monotonic() + timeout
    while not (value := probe()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {timeout} s: {what}")
        time.sleep(0.02)
    return value


class Usage:
    """What a process has used until now, from /proc; threads that ended are not in it."""

    def __init__(self, pid):
        proc = pathlib.Path(f"/proc/{pid}")
        self.at, self.cpu, self.voluntary, self.forced, self.threads = time.monotonic(), 0.0, 0, 0, 0
        for task in (proc / "task").iterdir():
            self.cpu += int((task / "schedstat").read_text().split()[0]) / 1e9
            switches = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
            self.voluntary += int(switches[0])
            self.forced += int(switches[1])
            self.threads += 1
        rollup = (proc / "smaps_rollup").read_text()
        self.rss, self.pss = (int(re.search(rf"^{k}:\s+(\d+)", rollup, re.M)[1]) / 1024
                              for k in ("Rss", "Pss"))
        self.fds = len(os.listdir(proc / "fd"))


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """The real dhashd in a folder of its own, with n environments on the answering side's targets."""

    def __init__(self, folder, n, port, **keys):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=folder))
        self.socket, self.log = self.folder / "sock", self.folder / "log"
        services = self.folder / "etc/services.d"
        services.mkdir(parents=True)
        keys = {"Deploy": "/bin/true", "Rollback": "/bin/true", **keys}
        common = "".join(f"{k}={v}\n" for k, v in keys.items())
        (services / "bench.conf").write_text(
            f"[Service]\nDescription=bench\nWorkingDirectory={self.folder}\n{common}" + "".join(
                f"[Environment e{i:04}]\nHealthURL={target(i, port)}/health\n" for i in range(n)))
        with open(self.log, "ab") as log:
            self.process = spawn([BUILD / "dhashd", "-c", self.folder / "etc", "--state",
                                  self.folder / "state", "--socket", self.socket],
                                 stdout=log, stderr=log)
        wait_for(self.answers, "dhashd answers")

    def answers(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"dhashd ended:\n{self.log.read_text()[-2000:]}")
        try:
            return self.api("GET", "/v1/version")
        except OSError:
            return None

    def api(self, method, path, body=None):
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body and json.dumps(body),
                               {"Content-Type": "application/json"} if body else {})
            answer = connection.getresponse()
            value = json.loads(answer.read())
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {value}")
            return value
        finally:
            connection.close()

    def deploy_all(self, n, side):
        """Ends when all n were checked; asks for no status of all, which would show in the memory."""
        side.ask("reset")
        for i in range(n):
            self.api("POST", "/v1/deployments", {"environment": f"e{i:04}", "tag": "v1"})
        side.wait_checked(n)

    def states(self):
        return [e["deployment"]["state"] if e["deployment"] else None
                for e in self.api("GET", "/v1/status")["environments"]]

    def usage(self):
        time.sleep(0.05)    # our own last connection is being closed
        return Usage(self.process.pid)

    def end(self):
        end(self.process)
        shutil.rmtree(self.folder)


def target(i, port):
    return f"http://127.1.{i // 250}.{i % 250 + 1}:{port}"


class Answer:
    """The answering side: tests/bench/answer.c."""

    def __init__(self, n, interval, *more):
        self.process = spawn([BUILD / "tests/bench/answer", n, interval, *more],
                             stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def ask(self, what):
        connection = http.client.HTTPConnection("127.1.0.1", self.port, timeout=30)
        connection.request("GET", f"/{what}")
        text = connection.getresponse().read().decode()
        connection.close()
        return json.loads(text) if what == "stats" else text

    def wait_checked(self, n):
        wait_for(lambda: self.ask("stats")["targets"] == n, f"{n} targets were checked", 120)

    def end(self):
        self.process.stdout.close()
        end(self.process)
