# SPDX-License-Identifier: Apache-2.0
"""The little worlds of the kill sweep: a service, its hooks, a configuration of milliseconds, and a
state folder that each run begins with a copy of.

A world lives at one path, as absolute paths are in the database too; each job has its own.  What the
hooks did is in the ledger, which they only append to.  The service answers by what lies in the
release file: a bad release is healthy for a while and then is not.
"""

import os
import pathlib
import re
import shutil
import socket
import sys
import tarfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from harness import BUILD, ENDED, PATIENCE, UnixConnection, environment, phases, service

SHORT, LONG = (("critical", "100ms", "20ms"),), (("critical", "60s", "20ms"),)
# Where a runner is killed a release may never have come, or never have gone, and is watched to the end.
RUNNER = (("critical", "2s", "20ms"),)
RUNNER_KEYS = {"VerifyTimeout": "3s"}
TEMPORARY = re.compile(r"\.tmp-|\.partial|\.reserved$|^\.(?!dhash-release$)")
KEYS = {"Settle": "40ms", "Recheck": "20ms", "Timeout": "10s", "VerifyInterval": "20ms",
        "VerifyTimeout": "30s", "PostWatch": "60ms", "PostInterval": "20ms",
        "RecoveryInterval": "20ms", "IdleInterval": "0", "MinCoverage": "0%", "BackupPaths": "app"}
HEALTHY_FIRST = 4  # answers of a bad release: through settling, into the watch

HOOK = """#!/bin/sh
echo "{step} start $1 $2" >>{root}/ledger
[ -e {root}/slow ] && sleep 0.05
{act}
echo "{step} end $1 $2" >>{root}/ledger
"""
PUT = 'echo "$2" >{root}/app/release'
UNZIP = 'unzip -o -q "$2" -d {root} || exit 4'
# By the link, as the service would.
RESTART = 'cat {root}/current/release >{root}/app/release'


class Scenario:
    """What is deployed onto what, and how that has to end."""

    def __init__(self, name, end, watch=LONG, from_template=True, deploy=True, rollback=True,
                 engine=False):
        self.name, self.end, self.watch, self.from_template = name, end, watch, from_template
        self.deploy, self.rollback, self.engine = deploy, rollback, engine
        self.tag = "v2" if from_template else "v1"

    def keys(self, root):
        keys = dict(KEYS)
        if self.engine:
            keys.update(Artifact=f"{root}/app-%t.tar.gz", Restart="scripts/restart %i %t",
                        BackupPaths=None)
        else:
            keys.update(Deploy="scripts/deploy %i %t",
                        Rollback="scripts/rollback %i %b" if self.rollback else None)
        return keys


SCENARIOS = {s.name: s for s in (
    # The guide's way: hooks, and a backup that the rollback hook is given.
    Scenario("hooks", "rolled-back"),
    # The daemon's first start, on an empty folder, and a deployment that succeeds.
    Scenario("first", "succeeded", watch=SHORT, from_template=False),
    # No rollback hook: the backup is restored by the daemon.
    Scenario("restore", "rolled-back", rollback=False),
    # Release folders, switched by the daemon; the one hook restarts the service, both ways.
    Scenario("engine", "rolled-back", engine=True, deploy=False, rollback=False),
)}


class Sick(threading.Thread):
    """The service: 200, or 503 from a bad release that has been healthy for long enough."""

    def __init__(self):
        super().__init__(daemon=True)
        self.release_file, self.seen, self.count = None, None, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self, release_file):
        self.seen, self.count, self.release_file = None, 0, release_file

    def healthy(self):
        try:
            tag = self.release_file.read_text().strip()
        except OSError:
            tag = "nothing"
        if tag != self.seen:
            self.seen, self.count = tag, 0
        self.count += 1
        return tag in ("v0", "v1") or (tag == "v2" and self.count <= HEALTHY_FIRST)

    def answer(self, peer):
        peer.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            more = peer.recv(4096)
            if not more:
                return
            data += more
        status = "200 OK" if self.healthy() else "503 Service Unavailable"
        peer.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def run(self):
        while True:
            peer, _ = self.listener.accept()
            with peer:
                try:
                    self.answer(peer)
                except OSError:
                    pass  # the daemon was killed while it asked


class World:
    """The files of one job: at `root` while a run is on, pristine ones beside it."""

    def __init__(self, folder, sick):
        self.folder, self.sick = pathlib.Path(folder), sick
        self.root = self.folder / "world"
        self.site, self.state = self.root / "site", self.root / "state"
        self.conf, self.socket = self.root / "etc", self.root / "sock"
        self.log, self.ledger = self.root / "dhashd.log", self.site / "ledger"

    def build(self, scenario, watch=None):
        """Everything anew, with nothing deployed yet."""
        shutil.rmtree(self.root, ignore_errors=True)
        (self.conf / "services.d").mkdir(parents=True)
        (self.conf / "dhashd.conf").write_text("[Daemon]\nLogLevel=debug\n")
        (self.site / "app").mkdir(parents=True)
        (self.site / "scripts").mkdir()
        self.ledger.touch()
        (self.site / "app/release").write_text("v0\n")
        (self.site / "app/data").write_text("data of the application\n" * 500)
        for step, act in (("deploy", PUT), ("rollback", UNZIP), ("restart", RESTART)):
            script = self.site / "scripts" / step
            script.write_text(HOOK.format(step=step, root=self.site, act=act.format(root=self.site)))
            script.chmod(0o755)
        if scenario.engine:
            for tag in ("v1", "v2"):
                self.pack(tag)
        self.configure(scenario, watch or scenario.watch)

    def pack(self, tag):
        source = self.site / "source"
        source.mkdir(exist_ok=True)
        (source / "release").write_text(tag + "\n")
        shutil.copy(self.site / "app/data", source / "data")
        with tarfile.open(self.site / f"app-{tag}.tar.gz", "w:gz") as tar:
            tar.add(source, ".")

    def configure(self, scenario, watch, **more):
        text = service(self.site, environment("production", self.sick.url, **{
            "Deploy": None, "Rollback": None, **scenario.keys(self.site), **more}), phases(*watch))
        (self.conf / "services.d/dhash.conf").write_text(text)

    def keep_template(self, name):
        shutil.copytree(self.root, self.folder / name, symlinks=True)

    def reset(self, name, slow=False, watch=None):
        """Back to the template; `watch` in place of its own where runners are killed."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.folder / name, self.root, symlinks=True)
        if slow:
            (self.site / "slow").touch()
        if watch:
            self.configure(SCENARIOS[name], watch, **RUNNER_KEYS)
        self.sick.serve(self.site / "app/release")

    def ledger_lines(self):
        return self.ledger.read_text().splitlines()

    def leftovers(self):
        """Names under which something is only made; the parts that chance chose are masked.

        A runner that came late may just be finding out that another one was first: it is waited for."""
        deadline = time.monotonic() + 5
        while True:
            found = self.temporary()
            if not any(".started.tmp-" in path for path in found) or time.monotonic() > deadline:
                return found
            time.sleep(0.02)

    def temporary(self):
        found = []
        for folder, dirs, files in os.walk(self.root):
            for name in filter(TEMPORARY.search, dirs + files):
                path = os.path.relpath(os.path.join(folder, name), self.root)
                found.append(re.sub(r"(\.dhash-\w+-|deploy-)[-0-9a-f]+", r"\1*", path))
        return sorted(found)
