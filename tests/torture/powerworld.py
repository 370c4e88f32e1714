# SPDX-License-Identifier: Apache-2.0
"""The world of the power-cut tests: a daemon with a few services on a disk of its own.

Every worker lives in namespaces of its own, so that all worlds have one path and one address: the
database holds paths, and a disk made elsewhere must mean the same.  The services are folders and one
HTTP server, which calls a service healthy when the release that its hooks put in place begins with "g".
"""

import ctypes
import fcntl
import http.client
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import tarfile
import threading
import time

import powercut

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DHASH_BUILD", ROOT / "build")).resolve()
SHIM = pathlib.Path(os.environ.get("DHASH_POWERSHIM", BUILD / "tests/torture/powershim.so"))
PATIENCE = float(os.environ.get("DHASH_TEST_PATIENCE", "1"))
WORLD, PORT = pathlib.Path("/mnt/dhash-power"), 8099
STATE, OUTSIDE, SITE, CONF = WORLD / "state", WORLD / "outside", WORLD / "site", WORLD / "etc"
ENDED = {"succeeded", "unverified", "rejected", "failed", "aborted", "superseded", "rolled-back",
         "rollback-failed"}

HOOK = f"""#!/bin/sh
# step service deployment tag: what a hook does is done outside of the disk under test, but that the
# one of "restore" writes into what is backed up.
out={OUTSIDE}/$2
echo "$DHASH_STEP $3 $4" >>$out/calls
[ -e {OUTSIDE}/slow ] && sleep 0.02
tag=$4
case $2-$DHASH_STEP in
    restore-deploy) echo "$4" >{SITE}/restore/app/release; echo "$4" >{SITE}/restore/conf/release ;;
    restore-restart-rollback) read -r tag <{SITE}/restore/app/release ;;
    engine-*) ;;
    *-rollback) tag=g-back ;;
esac
echo "$tag" >$out/release
"""

ENV = {"HealthURL": "http://127.0.0.1:%d/{name}" % PORT, "Settle": "20ms", "Recheck": "20ms", "Timeout": "5s",
       "IdleInterval": "1s", "VerifyInterval": "20ms", "VerifyTimeout": "8s", "PostWatch": "100ms",
       "PostInterval": "50ms", "RecoveryInterval": "50ms", "MinCoverage": "0%"}
HOOKS = {step: f"{WORLD}/hook.sh {step} {{name}} %i %t" for step in ("deploy", "rollback", "restart")}


class Plan:
    """How a service is configured, what is deployed on it, and how that may end."""

    def __init__(self, name, good, watch, keys):
        self.name, self.good, self.watch, self.keys = name, good, watch, keys

    def text(self):
        keys = {**ENV, **self.keys}
        lines = "".join(f"{k}={v.format(name=self.name)}\n" for k, v in keys.items())
        return (f"[Service]\nDescription={self.name}\nWorkingDirectory={SITE}/{self.name}\n\n"
                f"[Environment production]\n{lines}\n[Phase critical]\nUntil={self.watch}\nInterval=20ms\n\n"
                "[Phase stability]\nUntil=0\n\n[Phase extended]\nUntil=0\n")


BY_HOOKS = {"Deploy": HOOKS["deploy"], "Rollback": HOOKS["rollback"], "BackupPaths": "app"}
PLANS = {p.name: p for p in (
    Plan("good", True, "250ms", BY_HOOKS),
    Plan("sick", False, "2s", BY_HOOKS),
    Plan("manual", True, "600ms", BY_HOOKS),
    Plan("engine", False, "2s", {"Artifact": f"{SITE}/engine/app-%t.tar.gz", "Restart": HOOKS["restart"]}),
    Plan("restore", False, "2s", {"Deploy": HOOKS["deploy"], "Restart": HOOKS["restart"],
                                  "BackupPaths": "app conf"}),
)}


def release_files(tag):
    """What a release of the engine holds, and what is backed up; all of one tag."""
    return {"release": f"{tag}\n".encode(), "data/a": tag.encode() * 700, "data/b": tag.encode() * 90}


# --- namespaces

CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWUSER = 0x20000, 0x40000000, 0x10000000
MS_REC_PRIVATE = 0x4000 | 0x40000


def enter_namespaces():
    """Mounts, network, and where we are not root a user namespace; a fresh tmpfs at WORLD."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()

    def call(name, *args):
        if getattr(libc, name)(*args) != 0:
            raise OSError(ctypes.get_errno(), f"{name}{args}: {os.strerror(ctypes.get_errno())}")
    call("unshare", CLONE_NEWNS | CLONE_NEWNET | (CLONE_NEWUSER if uid else 0))
    if uid:
        pathlib.Path("/proc/self/setgroups").write_text("deny")
        pathlib.Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        pathlib.Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    call("mount", b"none", b"/", None, MS_REC_PRIVATE, None)
    call("mount", b"tmpfs", b"/mnt", b"tmpfs", 0, b"size=512m")
    WORLD.mkdir()
    with socket.socket() as s:  # ip link set lo up
        request = struct.pack("16sH14x", b"lo", 1)
        fcntl.ioctl(s, 0x8914, request)


class Health(socketserver.ThreadingTCPServer):
    """GET /<service>: 200 or 503, on connections that are kept."""

    daemon_threads = allow_reuse_address = True

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            try:
                self.answer()
            except ConnectionError:
                pass  # the daemon was killed

        def answer(self):
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (line := self.rfile.readline()):
                name = line.split()[1].decode()
                while self.rfile.readline().strip():
                    pass
                try:
                    healthy = (OUTSIDE / name[1:] / "release").read_text().startswith("g")
                except OSError:
                    healthy = False
                self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nok\n" % (
                    b"200 OK" if healthy else b"503 Sick"))

    def __init__(self):
        super().__init__(("127.0.0.1", PORT), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


# --- files

def empty_world():
    for path in WORLD.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def new_world():
    """The world before the first deployment, all of it on disk: g0 is in place."""
    empty_world()
    for folder in (STATE, OUTSIDE, CONF / "services.d"):
        folder.mkdir(parents=True)
    (WORLD / "hook.sh").write_text(HOOK)
    (WORLD / "hook.sh").chmod(0o755)
    for plan in PLANS.values():
        (CONF / f"services.d/{plan.name}.conf").write_text(plan.text())
        (OUTSIDE / plan.name).mkdir()
        (OUTSIDE / plan.name / "release").write_text("g0\n")
        (OUTSIDE / plan.name / "calls").touch()
        folders = ["releases/g0"] if plan.name == "engine" else ["app", "conf"]
        for folder in folders:
            put_release(SITE / plan.name / folder, "g0")
    (SITE / "engine/current").symlink_to("releases/g0")
    for name, content in ARTIFACTS.items():
        (SITE / "engine" / name).write_bytes(content)


def put_release(folder, tag):
    for path, content in release_files(tag).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def artifact(tag):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for path, content in release_files(tag).items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARTIFACTS = {f"app-{kind}{n}.tar.gz": artifact(f"{kind}{n}") for kind in "gs" for n in range(1, 10)}


# --- the daemon

class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Failure(Exception):
    """The daemon did what it must not do."""


class Life:
    """One run of the daemon: with a boot id of its own, from a wall clock of its own."""

    count = 0

    def __init__(self, program, scratch, shift_usec, log=None, sync_usec=0):
        Life.count += 1
        self.socket, self.out = scratch / "sock", scratch / "dhashd.log"
        boot = scratch / "boot_id"
        boot.write_text("%08x-0000-4000-8000-%012x\n" % (os.getpid(), Life.count))
        env = {"PATH": os.environ["PATH"], "LD_PRELOAD": str(SHIM), "POWER_BOOT": str(boot),
               "POWER_WALL_USEC": str(shift_usec)}
        if log:
            env.update(POWER_LOG=str(log), POWER_DEV=str(os.stat(WORLD).st_dev), POWER_SYNC_USEC=str(sync_usec))
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [str(program), "-c", str(CONF), "--state", str(STATE), "--socket", str(self.socket)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        try:
            self.wait(self.answers, "dhashd answers", 20, 0.003)
        except BaseException:
            self.kill()
            raise

    def log(self):
        return self.out.read_text(errors="replace")

    def wait(self, probe, what, timeout, interval):
        deadline = time.monotonic() + timeout * PATIENCE
        while not probe():
            if self.process.poll() is not None:
                raise Failure(f"dhashd ended with {self.process.returncode} while waiting: {what}")
            if time.monotonic() > deadline:
                raise Failure(f"not within {timeout * PATIENCE:g} s: {what}")
            time.sleep(interval)

    def api(self, method, path, body=None):
        connection = UnixConnection(self.socket, 20 * PATIENCE)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except http.client.HTTPException as e:
            raise OSError(f"{method} {path}: {e!r}") from e
        finally:
            connection.close()

    def answers(self):
        try:
            return self.api("GET", "/v1/version")[0] == 200
        except OSError:
            return False

    def states(self):
        """{service: its newest deployment or None}."""
        status, answer = self.api("GET", "/v1/status")
        if status != 200:
            raise Failure(f"GET /v1/status: {status} {answer}")
        return {e["service"]: e["deployment"] for e in answer["environments"]}

    def deploy(self, name, tag):
        status, answer = self.api("POST", "/v1/deployments", {
            "service": name, "environment": "production", "tag": tag})
        if status != 202:
            raise Failure(f"deploying {tag} on {name}: {status} {answer}")
        return answer["id"]

    def roll_back(self, name):
        status, answer = self.api("POST", "/v1/rollbacks", {
            "service": name, "environment": "production", "reason": "by hand"})
        if status not in (202, 409):
            raise Failure(f"rolling back {name}: {status} {answer}")

    def finish(self, by_hand=()):
        """Until every deployment has ended; those of the services by_hand that are good are rolled
        back, once, as soon as they are watched."""
        asked = set()

        def probe():
            states = self.states()
            for name in by_hand:
                d = states[name]
                if d and d["state"] == "watching" and d["tag"].startswith("g") and d["id"] not in asked:
                    asked.add(d["id"])
                    self.roll_back(name)
            return all(d is None or d["state"] in ENDED for d in states.values())
        self.wait(probe, "every deployment comes to its end", 60, 0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30 * PATIENCE)
        except subprocess.TimeoutExpired as e:
            raise Failure("dhashd does not stop") from e
        if status != 0:
            raise Failure(f"dhashd stopped with status {status}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def follow_events(life):
    """A reader of the stream, which reads nothing: what it was sent is in the log."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(life.socket))
    s.sendall(b"GET /v1/events?follow=1&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return s


class Trace:
    """A life that was recorded: the disk at its start, what was done, and what went before."""

    def __init__(self, folder, start, history):
        self.folder, self.start, self.history = pathlib.Path(folder), start, history
        self.name = f"trace-{time.time_ns()}"
        self.records = powercut.read_log(self.folder / "log")


def record(program, folder, scratch, rng, shift_usec, history, script=None):
    """Lives one life on the world as it is, of two rounds of deployments, and records it; history
    is what the outside has seen of the lives before."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = powercut.snapshot(WORLD)
    powercut.save(folder / "start", (start, history))
    powercut.make_log(folder / "log")
    (OUTSIDE / "slow").touch()
    life = Life(program, scratch, shift_usec, folder / "log", rng.choice((300, 1500, 4000)))
    try:
        stream = follow_events(life)
        play(life, rng, 2 * history.generation if history else 0, script)
        stream.close()
        if rng.random() < 0.5:
            life.stop()
    finally:
        life.kill()
        (OUTSIDE / "slow").unlink()
    return Trace(folder, start, history)


def play(life, rng, used, script):
    """used: the number of the last tag; none is taken twice, for what was bad once is refused."""
    life.finish()
    names = rng.sample(sorted(PLANS), rng.choice((2, 2, 3)))
    if script == "again" or "engine" in names and rng.random() < 0.2:
        again(life, used)
        return
    if "engine" in names and rng.random() < 0.5:
        life.deploy("engine", f"g{used + 1}")
        life.finish()
    for n in (used + 1, used + 2):
        for name in rng.sample(names, len(names)):
            life.deploy(name, f"{'g' if PLANS[name].good else 's'}{n}")
        life.finish(by_hand=["manual"] if n % 2 == 0 else [])


def again(life, used):
    """A release that is there already is deployed again, so that nothing is unpacked, and goes back."""
    for n, by_hand in ((used + 1, []), (used + 2, []), (used + 1, ["engine"])):
        life.deploy("engine", f"g{n}")
        life.finish(by_hand)


def load_trace(folder):
    start, history = powercut.load(pathlib.Path(folder) / "start")
    return Trace(folder, start, history)
