# SPDX-License-Identifier: Apache-2.0
"""One run: a deployment with a backup whose release is broken, the rollback, an operator who asks and
reloads meanwhile; and one fault.  What may come of it is in World.verdict().

Whoever operates here does as people do: what was refused is asked for again once the fault is lifted.
"""

import collections
import http.server
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
import harness  # noqa: E402
from harness import ENDED, PATIENCE  # noqa: E402

import faultpage  # noqa: E402

LIBRARY = harness.BUILD / "tests/torture/faultshim.so"
HOLD = 1.3          # how long "for good" lasts: the store tries again after 1 s, and fails again
DEADLINE = 90       # of a whole run
ANSWER_MAX = 15.0   # of an answer from the loop; 200 times what a loaded machine takes
FAULT_PATIENCE = 2  # while the fault lasts, or may: an answer that does not come then is no finding
CPU_MAX = 0.6       # of one processor while the fault lasts
KEYS = {"Settle": "50ms", "Recheck": "50ms", "VerifyInterval": "50ms", "VerifyTimeout": "8s",
        "PostWatch": "100ms", "PostInterval": "50ms", "RecoveryInterval": "50ms", "IdleInterval": "200ms",
        "MinCoverage": "0%", "BackupPaths": "app"}
LEVELS = re.compile(r"^\S+ (emergency|alert|critical|error|warning) ", re.M)

HOOK = """#!/bin/sh
root={root}
echo "$DHASH_STEP start $DHASH_DEPLOYMENT" >>"$root/calls"
case $DHASH_STEP in
deploy) echo "$DHASH_TAG" >"$root/app/release" || exit 3 ;;
rollback) unzip -o -q "$DHASH_BACKUP" -d "$root" || exit 4 ;;
esac
echo "$DHASH_STEP end $DHASH_DEPLOYMENT" >>"$root/calls"
"""
METRICS = ("# TYPE http_requests_total counter\n"
           'http_requests_total{{code="200"}} {n}\nhttp_requests_total{{code="500"}} 1\n'
           "# TYPE http_request_duration_seconds histogram\n"
           'http_request_duration_seconds_bucket{{le="5"}} {n}\n'
           'http_request_duration_seconds_bucket{{le="+Inf"}} {n}\n'
           "http_request_duration_seconds_sum 1\nhttp_request_duration_seconds_count {n}\n")


class Application(http.server.ThreadingHTTPServer):
    """Is as healthy as the release in its folder."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.release, self.count = None, 0  # release: the file that says which it is
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that was killed


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.count += 1
        try:
            release = self.server.release.read_text().strip()
        except OSError:
            release = "gone"
        status = 500 if self.path == "/health" and not release.startswith("good") else 200
        body = METRICS.format(n=self.server.count * 10).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Shimmed(harness.Daemon):
    def __init__(self, folder, page):
        super().__init__(folder)
        self.page = page

    def start(self, wait=False):
        env = {**os.environ, "LD_PRELOAD": str(LIBRARY), "FAULT_PAGE": str(self.page.path)}
        self.process = harness.Process([harness.DHASHD, "-c", self.conf, "--state", self.state, "--socket",
                                        self.socket], self.log_path, env=env)

    def cpu(self):
        """Seconds of processor time, or None."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        except OSError:
            return 0


class Failure(Exception):
    pass


class World:
    def __init__(self, folder, application, fault, role=faultpage.DAEMON, plan="sick"):
        self.folder, self.fault = pathlib.Path(folder), fault
        self.plan = fault.plan if fault else plan
        self.good_end = {"succeeded", "unverified"} if self.plan == "well" else {"rolled-back"}
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.page = faultpage.Page(self.folder / "page")
        self.page.set(fault, role)
        self.root = self.folder / "site"
        self.release = self.root / ("current/release" if self.plan == "engine" else "app/release")
        self.set_up_site()
        application.release = self.release
        hook = self.root / "hook"
        hook.write_text(HOOK.format(root=self.root))
        hook.chmod(0o755)
        self.daemon = Shimmed(self.folder / "d", self.page)
        self.hook = hook
        self.configure(f"http://guarded.test:{application.server_port}", "50ms",
                       "800ms" if self.plan == "well" else "20s")
        self.ids, self.unsure = [], False    # acknowledged, newest last; one that may have been made
        self.ended = []                      # (status, last lines) of a daemon that ended
        self.refused, self.states = [], []   # what an operator was told; ends on the way
        self.read_only = self.reloaded = self.lifted = self.manual = False
        self.slowest, self.cpu_used, self.cpu_from, self.since = 0.0, None, None, None
        self.told = False  # of the rollback, before the fault was lifted
        self.fds, self.deadline, self.hold_until = 0, DEADLINE, ""
        self.application, self.asked_from, self.asked = application, None, None

    def set_up_site(self):
        self.release.parent.mkdir(parents=True)
        self.release.write_text("good\n")
        (self.release.parent / "data").write_bytes(os.urandom(20_000))
        if self.plan != "engine":
            return
        (self.root / "releases").mkdir()
        (self.root / "current").rename(self.root / "releases/v0")
        (self.root / "current").symlink_to("releases/v0")
        for n in range(8):
            tag = self.root / f"bad{n}"
            tag.write_text(f"bad{n}\n")
            with tarfile.open(self.root / f"app-bad{n}.tar.gz", "w:gz") as tar:
                tar.add(tag, "release")
                tar.add(self.release.parent / "data", "data")

    def configure(self, url, interval, watch):
        keys = {"Deploy": str(self.hook), "Rollback": f"{self.hook} %b"}
        if self.plan == "engine":
            keys = {"Deploy": None, "Rollback": None, "BackupPaths": None, "Restart": str(self.hook),
                    "Artifact": f"{self.root}/app-%t.tar.gz"}
        self.daemon.configure("web", harness.service(
            self.root, harness.environment("production", url, **{**KEYS, **keys, "MetricsURL": f"{url}/metrics"}),
            harness.phases(("critical", watch, interval)), harness.METRICS,
            harness.section("Check plugin", {"Type": "exec", "Command": "/bin/true", "Infrastructure": "yes"})))

    def reached(self):
        """Has what is to fail been called?"""
        return bool(self.page.done)

    def lift(self):
        self.page.lift()
        if not self.lifted:
            self.told = "decision: rolling back" in self.daemon.log()
        self.lifted = True

    # --- one turn ---

    def ask(self, method, path, body=None):
        """None where there is no answer, which only a fault excuses."""
        began, patience = time.monotonic(), ANSWER_MAX if self.ok_now() else FAULT_PATIENCE
        try:
            return self.daemon.api(method, path, body, timeout=patience)
        except (OSError, ValueError):
            # An act waits for the disk of the machine, which others use, too.
            if method == "GET" and patience == ANSWER_MAX and self.daemon.process.running() and self.daemon.socket.exists() and \
                    time.monotonic() - began >= ANSWER_MAX * PATIENCE:
                raise Failure(f"no answer to {method} {path} within {ANSWER_MAX * PATIENCE:g} s")
            return None
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)

    def ok_now(self):
        """What was to fail has, and that is over for a while: before, an answer may be what is lost."""
        return not self.fault or (self.lifted and time.monotonic() > self.since + HOLD + 2)

    def operate(self, env):
        found = env["deployment"]
        live = found and found["state"] not in ENDED
        if live and self.unsure and found["id"] not in self.ids:
            self.ids.append(found["id"])
        if live and found["state"] in ("settling", "watching") and not self.reloaded:
            self.daemon.reload()
            self.reloaded = True
        if live or (found and found["state"] in self.good_end and found["id"] in self.ids):
            return
        failed = found and found["state"] == "rollback-failed" and found["id"] in self.ids
        if failed and not (self.lifted and self.manual):
            if self.lifted:
                answer = self.ask("POST", "/v1/rollbacks", {"environment": "production", "reason": "by hand"})
                self.manual = bool(answer) and answer[0] == 202
            return  # what fails a second time is deployed anew
        if found and found["id"] in self.ids and not self.lifted:
            return  # it ended without a rollback: asked for again when the fault is over
        answer = self.ask("POST", "/v1/deployments", {"environment": "production", "tag": self.tag()})
        if answer and answer[0] == 202:
            self.ids.append(answer[1]["id"])
        elif answer and answer[1]["error"]["kind"] != "busy":  # with the one whose answer was lost
            self.refused.append(answer[1]["error"]["message"])
        else:
            self.unsure = True

    def tag(self):
        return f"{'good' if self.plan == 'well' else 'bad'}{len(self.states)}"

    def watch_fault(self):
        if not self.reached() or self.lifted:
            return
        now = time.monotonic()
        if self.since is None:
            self.since, self.cpu_from = now, self.daemon.cpu()
        if self.fault.for_good and now < self.since + HOLD:
            return
        used = self.daemon.cpu()
        if self.fault.for_good and used is not None and self.cpu_from is not None:
            self.cpu_used = (used - self.cpu_from) / (now - self.since)
        if self.asked_from is not None and self.read_only and not self.ended:
            self.asked = self.application.count - self.asked_from
        self.lift()

    def restart(self):
        """The service manager's part."""
        self.ended.append((self.daemon.process.popen.returncode, self.daemon.log()[-600:]))
        if len(self.ended) > 6:
            raise Failure("it ends again and again")
        if self.since is None:
            self.since = time.monotonic()
        if self.reached() and (not self.fault.for_good or len(self.ended) > 1):
            self.lift()
        elif not self.reached():
            raise Failure(f"it ended with no fault: {self.ended[-1]}")
        time.sleep(0.05)
        self.daemon.start()

    def turn(self):
        """True when all is over."""
        self.watch_fault()
        if not self.daemon.process.running():
            self.restart()
            return False
        answer = self.ask("GET", "/v1/status")
        if not answer or answer[0] != 200:
            return False
        env = answer[1]["environments"][0]
        found = env["deployment"]
        if answer[1]["daemon"]["state"] == "read-only" and not self.read_only:
            self.read_only = True
            if found and found["state"] == "watching":
                self.asked_from = self.application.count
        if found and found["state"] in ENDED and (not self.states or self.states[-1] != (found["id"], found["state"])):
            self.states.append((found["id"], found["state"]))
        self.operate(env)
        over = bool(found) and found["state"] in self.good_end and found["id"] == (self.ids or [None])[-1]
        if over and not self.reached():
            return True  # not reached
        return over and self.lifted and answer[1]["daemon"]["state"] == "running"

    def run(self):
        self.daemon.start()
        deadline = time.monotonic() + self.deadline * PATIENCE
        while not self.turn():
            if time.monotonic() > deadline:
                raise Failure(f"no end after {self.deadline * PATIENCE:g} s: {self.states}, told {self.refused[-2:]}")
            time.sleep(0.03)
        self.fds = self.daemon.descriptors()
        self.lift()
        status = self.daemon.process.end()
        if status != 0:
            raise Failure(f"it ends with status {status} when it is stopped")

    # --- what came of it ---

    def rows(self, sql):
        base = sqlite3.connect(f"file:{self.daemon.state}/dhashd.db?mode=ro", uri=True)
        try:
            return base.execute(sql).fetchall()
        finally:
            base.close()

    def check_store(self):
        if self.rows("PRAGMA integrity_check") != [("ok",)]:
            raise Failure("the database is damaged")
        kept = {row[0] for row in self.rows("SELECT id FROM deployments")}
        if not set(self.ids) <= kept:
            raise Failure(f"acknowledged and lost: {set(self.ids) - kept}")
        doubled = self.rows("SELECT deployment, count(*) FROM decisions WHERE kind = 'roll-back' "
                            f"GROUP BY deployment HAVING count(*) > {2 if self.manual else 1}")
        if doubled:
            raise Failure(f"decided more than once: {doubled}")
        if self.plan == "well":
            wrong = self.rows("SELECT deployment, rule, evidence FROM decisions WHERE kind = 'roll-back' "
                              "AND rule IS NOT NULL AND rule != ''")
            if wrong:
                raise Failure(f"our own failure was taken for the release's: {wrong}")

    def check_hooks(self):
        lines = (self.root / "calls").read_text().splitlines() if (self.root / "calls").exists() else []
        starts = collections.Counter(line for line in lines if " start " in line)
        for line, n in starts.items():
            if n > (2 if line.startswith("rollback") and self.manual else 1):
                raise Failure(f"{n} times: {line}")
        if self.release.read_text().startswith("bad"):
            raise Failure("the broken release is still in place")

    def said(self):
        log = self.daemon.log()
        for output in self.daemon.state.glob("sessions/*/*.log"):  # the runner has no other place
            log += output.read_text(errors="replace")
        words = list(faultpage.said_as(self.fault.error))
        # SQLite tries again read-only, and tells the error of that.
        words += ["unable to open database file"] * (self.fault.family == "open")
        return any(w in log or any(w in r for r in self.refused) for w in words)

    def outcome(self):
        if not self.reached():
            return "not reached"
        if self.ended:
            return "ended and started again"
        if self.read_only:
            return "read-only for a while"
        if self.visible():
            return "said so and went on"
        return "said so, no harm" if self.said() else "no harm"

    def visible(self):
        ends = [state for _, state in self.states]
        return bool(self.ended or self.read_only or self.refused or len(ends) != 1)

    def verdict(self):
        """Raises Failure, or returns the outcome."""
        self.check_store()
        self.check_hooks()
        log = self.daemon.log()
        for mark in ("AddressSanitizer", "runtime error", "Assertion", "mistake in dhashd", "is damaged"):
            if mark in log:
                raise Failure(f"the log has {mark}")
        if not self.reached():
            return "not reached"
        for status, tail in self.ended:
            if status <= 0:
                raise Failure(f"it ended by a signal or as if all were well: {status}\n{tail}")
            if status == 78 and self.fault.error != "EACCES":
                raise Failure(f"it ended for good, as if the configuration were wrong\n{tail}")
        if self.visible() and not self.said():
            raise Failure(f"{self.fault.error} is not said anywhere: ends {self.states}, "
                          f"ended {self.ended}, told {self.refused[:3]}")
        if self.read_only and "critical READ-ONLY" not in log:
            raise Failure("it was read-only and paged nobody")
        if self.asked is not None and self.asked == 0:
            raise Failure("the service was asked no more while nothing could be written")
        if self.cpu_used is not None and self.cpu_used > CPU_MAX:
            raise Failure(f"{self.cpu_used:.0%} of a processor while the fault lasted")
        return self.outcome()

    def close(self, keep=False):
        self.lift()
        if self.daemon.process and self.daemon.process.running():
            self.daemon.process.popen.kill()
            self.daemon.process.popen.wait()
        self.page.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


class FullDisk(World):
    """The state folder on a file system of its own, of a few MB, that is full from a moment on."""

    MOMENTS = ("start", "second start", "queued", "deploying", "watching", "watching long", "rolling-back")
    SIZE = 6 << 20

    def __init__(self, folder, application, fault):
        super().__init__(folder, application, None, plan=fault.plan)
        self.fault, self.moment, self.filled = fault, fault.site, False
        self.ballast = self.daemon.state / "ballast"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.SIZE},mode=0755", "tmpfs", self.daemon.state], check=True)

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                self.filled = True

    def reached(self):
        return self.filled

    def lift(self):
        super().lift()
        self.ballast.unlink(missing_ok=True)

    def run(self):
        if self.moment == "watching long":
            self.run_long()
            return
        if self.moment == "second start":
            self.daemon.start()
            harness.wait_for(self.daemon.answers, "dhashd answers")
            self.daemon.stop()
        if "start" in self.moment:
            self.fill()
        super().run()

    def run_long(self):
        """Until so many samples wait that no more are kept, which takes a fast service and a daemon in haste."""
        service = harness.Service(self.folder)
        try:
            self.configure(service.url, "4ms", "30min")
            self.hold_until, self.deadline, self.good_end = "READ-ONLY for long", 600, {"rolled-back"}
            super().run()
        finally:
            service.end()
        if not self.lifted or "samples of that time were not kept" not in self.daemon.log():
            raise Failure("so many samples wait, and nothing is said of it")

    def watch_fault(self):
        if self.hold_until and self.hold_until not in self.daemon.log():
            return
        super().watch_fault()

    def verdict(self):
        self.asked = None if self.moment == "watching long" else self.asked
        if self.moment == "watching" and self.plan == "sick" and not self.told:
            raise Failure("a release is broken, the disk is full, and nobody is told of the first")
        return super().verdict()

    def operate(self, env):
        order = ("queued", "gates", "backup", "deploying", "settling", "watching", "rolling-back")
        at = env["deployment"]["state"].split(".")[0] if env["deployment"] else ""
        if not self.filled and at and (at not in order or order.index(at) >= order.index(self.moment.split()[0])):
            self.fill()
        if self.hold_until and self.lifted and not self.manual:
            answer = self.ask("POST", "/v1/rollbacks", {"environment": "production", "reason": "enough"})
            self.manual = bool(answer) and answer[0] == 202
        super().operate(env)

    def close(self, keep=False):
        if self.daemon.process and self.daemon.process.running():
            self.daemon.process.popen.kill()
            self.daemon.process.popen.wait()
        subprocess.run(["umount", "--lazy", self.daemon.state], check=False)
        super().close(keep)
