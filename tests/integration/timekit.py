# SPDX-License-Identifier: Apache-2.0
"""Clocks that a test moves, for the real daemon, and a service that lives by them.

The daemon runs under tests/time/clockshim.c.  While it has nothing to do its clock goes on to the next
thing due, and stands still at the moment that the test named last.  A whole deployment of four hours takes
seconds, and no busy machine makes it miss anything.
"""

import http.server
import mmap
import os
import pathlib
import shutil
import struct
import threading
import time
import urllib.parse

from harness import BUILD, DHASHD, Daemon, METRICS, Process, environment, section, service, wait_for

SHIM = BUILD / "tests/time/clockshim.so"
NEXT = BUILD / "tests/time/next/dhashd"
SECOND, MINUTE, HOUR, YEAR = 1, 60, 3600, 365 * 86400
NEVER = 2**63 - 1


class Clock:
    """The page of the shim.  Seconds, as the shifted CLOCK_BOOTTIME counts them."""

    ADVANCE, SUSPENDED, STEPPED, UNTIL, HELD = range(0, 40, 8)

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.write_bytes(bytes(4096))
        with open(self.path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 4096)

    def _get(self, field):
        return struct.unpack_from("=q", self.page, field)[0]

    def _set(self, field, value):
        struct.pack_into("=q", self.page, field, int(value))

    def _add(self, field, seconds):
        self._set(field, self._get(field) + round(seconds * 1e9))

    def now(self):
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self._get(self.ADVANCE) +
                self._get(self.SUSPENDED)) / 1e9

    def wall(self):
        return (time.clock_gettime_ns(time.CLOCK_REALTIME) + self._get(self.ADVANCE) +
                self._get(self.SUSPENDED) + self._get(self.STEPPED)) / 1e9

    def environ(self, **more):
        return {**os.environ, "LD_PRELOAD": str(SHIM), "DHASH_CLOCK": str(self.path), **more}

    def run_until(self, moment, timeout=30):
        """The program's clock goes to that moment, and all that was due before it is done."""
        until = round(moment * 1e9)
        self._set(self.UNTIL, until)
        wait_for(lambda: self._get(self.HELD) == until, "the clock is moved on", timeout, 0.001)

    def let_run(self, seconds):
        """Does not wait: something on the way will keep the program from being idle."""
        self._set(self.UNTIL, round((self.now() + seconds) * 1e9))

    def run(self, seconds, timeout=30):
        self.run_until(self.now() + seconds, timeout)

    def suspend(self, seconds):
        """The machine sleeps: MONOTONIC does not count that."""
        self._add(self.SUSPENDED, seconds)

    def step(self, seconds):
        """Somebody sets the wall clock."""
        self._add(self.STEPPED, seconds)

    def pass_by(self, seconds):
        """Time passes while no program under the shim runs."""
        self._add(self.ADVANCE, seconds)


class App:
    """A real HTTP service whose counters grow with the moved clock: so many requests a second, such a
    share of them errors.  It takes the requests of the hooks of harness.Site."""

    def __init__(self, clock, rate=2.0):
        self.clock, self.rate, self.errors, self.up = clock, rate, 0.0, True
        self.at, self.requests, self.failed = clock.now(), 0.0, 0.0
        self.stall = self.gate = None  # an Event: /health, /metrics wait for it
        self.keeps = True              # connections
        self.hang_ups = 0              # so many answers of /health do not come
        self.asked = threading.Event()
        self.lock = threading.Lock()
        app = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version, wbufsize = "HTTP/1.1", -1

            def log_message(self, *_):
                pass

            def answer(self, status, text, kind="text/plain; version=0.0.4"):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if not app.keeps:
                    self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/metrics":
                    if app.gate:
                        app.gate.wait(60)
                    return self.answer(200, app.metrics())
                up, stall = app.up, app.stall
                if stall:
                    app.asked.set()
                    stall.wait(60)
                if app.hang_ups > 0:
                    app.hang_ups -= 1
                    self.close_connection = True
                    return None
                return self.answer(200 if up else 503, "ok\n" if up else "down\n")

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                said = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                app.behave(errors=float(said.get("errors", 0)), up=said.get("health", "up") == "up")
                return self.answer(200, "ok\n")

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 64

            def handle_error(self, *_):
                pass  # whoever asked was killed

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def _count(self):
        now = self.clock.now()
        self.requests += (now - self.at) * self.rate
        self.failed += (now - self.at) * self.rate * self.errors
        self.at = now

    def behave(self, **how):
        with self.lock:
            self._count()
            for key, value in how.items():
                setattr(self, key, value)

    def metrics(self):
        with self.lock:
            self._count()
            ok, bad = int(self.requests) - int(self.failed), int(self.failed)
        slow = "".join(f'http_request_duration_seconds_bucket{{le="{le}"}} {ok + bad}\n'
                       for le in ("0.1", "1", "5", "10", "+Inf"))
        return (f'http_requests_total{{code="200"}} {ok}\nhttp_requests_total{{code="500"}} {bad}\n{slow}'
                f"http_request_duration_seconds_count {ok + bad}\nhttp_request_duration_seconds_sum {ok}\n")

    def end(self):
        for event in (self.stall, self.gate):
            if event:
                event.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class TimedDaemon(Daemon):
    """dhashd, and the runner of its hooks, under the shim."""

    def __init__(self, folder, clock):
        super().__init__(folder)
        self.clock = clock
        self.programs = self.folder / "programs"
        self.programs.mkdir()
        self.install(DHASHD)

    def install(self, program):
        """A package comes: this program runs from the next start on."""
        new = self.programs / "dhashd.new"
        shutil.copy(program, new)
        os.rename(new, self.programs / "dhashd")
        runner = self.programs / "dhash-hook"
        runner.write_text(f"""#!/bin/sh
# The daemon gives its runner no environment: here it gets the clocks.
LD_PRELOAD={SHIM} DHASH_CLOCK={self.clock.path} exec {pathlib.Path(program).parent}/dhash-hook "$@"
""")
        runner.chmod(0o755)

    def start(self, wait=True, before=()):
        self.process = Process([*before, self.programs / "dhashd", "-c", self.conf, "--state", self.state,
                                "--socket", self.socket], self.log_path,
                               env=self.clock.environ(DHASH_CLOCK_SKIP="1"))
        if wait:
            wait_for(self.answers, "dhashd answers", interval=0.005)

    def version(self):
        return self.get("/v1/version")["version"]


def configuration(site, url, **keys):
    """The guide's own schedule, rules and intervals: only what names this installation is set."""
    return service(site.root, section("Environment production", {
        "HealthURL": f"{url}/health", "MetricsURL": f"{url}/metrics", "BackupPaths": "app",
        "Deploy": "scripts/deploy_dhash.sh --env %e --tag %t --id %i",
        "Rollback": "scripts/rollback_dhash.sh --backup %b --env %e --id %i --force", **keys}), METRICS)
