# SPDX-License-Identifier: Apache-2.0
"""What the outside has seen before a power cut, and whether the disk and the next life are true to it."""

import copy
import hashlib
import json
import os
import pathlib
import re
import shutil
import sqlite3

import powercut
from powerworld import ENDED, OUTSIDE, PLANS, SITE, STATE, WORLD, Failure, release_files

APP, CONFIG = "site/restore/app/release", "site/restore/conf/release"
UNKNOWN = ("its runner is gone without a result", "cannot be read", "cannot read its result")
COMPLAINTS = ("set aside", "READ-ONLY", "does not verify", "mistake in dhashd", "cannot read the configuration frozen",
              "cannot note the release")


class Outside:
    """What cannot be taken back: answers and events that were sent, hooks that were begun."""

    def __init__(self):
        self.generation = 0  # power cuts so far
        self.deploys, self.rollbacks = {}, {}  # deployment → the answer
        self.events = {}  # number → line
        self.execs = []  # (service, step, deployment, tag)
        self.calls = {name: "" for name in PLANS}
        self.release = {name: ("g0", "g0") for name in PLANS}  # before the last hook, and after it

    def see(self, record, disk, streams):
        kind, a, _, _, _, first, second = record
        if kind == powercut.ANSWER:
            self.answer(a, first, streams)
        elif kind == powercut.EXEC:
            self.hook(first.decode().split("\0"), second.decode(), disk)
        elif kind == powercut.RENAME and second.endswith(b".result"):
            self.hook_ended(second.decode(), disk)

    def answer(self, fd, data, streams):
        if data.startswith(b"HTTP/1.1 "):
            streams[fd] = b""
        text = streams[fd] = streams.get(fd, b"") + data
        if text.startswith(b"HTTP/1.1 202 "):
            body = text.partition(b"\r\n\r\n")[2]
            if body.endswith(b"}\n"):
                answer = json.loads(body)
                known = self.rollbacks if answer["id"] in self.deploys else self.deploys
                known[answer["id"]] = answer
        elif b"application/x-ndjson" in text:
            whole, _, streams[fd] = text.rpartition(b"\n")
            for line in whole.split(b"\n"):
                if line.startswith(b'{"seq"') and line.rstrip().endswith(b"}"):
                    event = json.loads(line)
                    self.events[event["seq"]] = event
            streams[fd] = b"application/x-ndjson" + streams[fd]

    def hook(self, argv, step, disk):
        _, _, service, deployment, tag = argv[:5]
        self.execs.append((service, step, deployment, tag))
        self.calls[service] += f"{step} {deployment} {tag}\n"
        if (service, step) == ("restore", "deploy"):
            disk.write_outside(APP, tag + "\n")
            disk.write_outside(CONFIG, tag + "\n")
        elif (service, step) == ("restore", "restart-rollback"):
            tag = disk.text(APP).strip()
        elif service != "engine" and step.endswith("rollback"):
            tag = "g-back"
        self.release[service] = (self.release[service][1], tag)

    def hook_ended(self, name, disk):
        service = next((e[0] for e in self.execs if name.startswith(f"{e[2]}.{e[1]}.")), None)
        if not service:
            return
        self.release[service] = (self.release[service][1],) * 2
        if service == "restore":
            for path in (APP, CONFIG):
                disk.synced_file(disk.at(path), disk.number + 1)

    def put_into(self, tree, rng):
        """A hook that was cut may have done its work or not."""
        for name in PLANS:
            before, after = self.release[name]
            tree[f"outside/{name}/release"] = (after if rng.random() < 0.85 else before).encode() + b"\n"
            tree[f"outside/{name}/calls"] = self.calls[name].encode()
        tree.pop("outside/slow", None)


def replay(trace):
    """Yields (index, disk, outside, wall) before each record, and after the last."""
    disk, outside, streams = powercut.Disk(trace.start), copy.deepcopy(trace.history) or Outside(), {}
    wall = trace.records[0][4]
    for index, record in enumerate(trace.records):
        yield index, disk, outside, wall
        disk.apply(record)
        outside.see(record, disk, streams)
        wall = record[4]
    yield len(trace.records), disk, outside, wall


def demand(condition, what):
    if not condition:
        raise Failure(what)


def check_recording(trace):
    """Whether the recorder has seen everything: its disk is the one that is there."""
    for _, disk, _, _ in replay(trace):
        pass
    seen = disk.whole()
    there = {path: content for path, _, _, content in powercut.snapshot(WORLD) if path}
    for path in sorted(seen.keys() | there.keys()):
        if not path.startswith("outside/"):
            demand(path in seen and path in there and seen[path] == there[path],
                   f"the recorder and the disk differ in {path}: {str(seen.get(path))[:200]}, {str(there.get(path))[:200]}")


# --- the disk after the cut

def rows(base, query):
    cursor = base.execute(query)
    names = [c[0] for c in cursor.description]
    return [dict(zip(names, row)) for row in cursor]


class Found:
    """What a database holds; it is opened where it lies, so give it a copy."""

    def __init__(self, path):
        base = sqlite3.connect(path)
        try:
            said = [r[0] for r in base.execute("PRAGMA integrity_check")]
            demand(said == ["ok"], f"the database is damaged: {said[:3]}")
            if not base.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'").fetchone():
                self.deployments, self.decisions, self.alerts, self.backups, self.events = {}, [], [], [], {}
                return
            self.deployments = {d["id"]: d for d in rows(base, "SELECT * FROM deployments ORDER BY created_at")}
            self.decisions = rows(base, "SELECT * FROM decisions")
            self.alerts = rows(base, "SELECT * FROM alerts")
            self.backups = rows(base, "SELECT * FROM backups")
            self.events = {e["seq"]: {"seq": e["seq"], **json.loads(e["json"])} for e in rows(base, "SELECT seq, json FROM events")}
        except sqlite3.DatabaseError as e:
            raise Failure(f"the database cannot be read: {e}") from e
        finally:
            base.close()

    def rolled_back(self, deployment):
        return [d for d in self.decisions if d["deployment"] == deployment and d["kind"] == "roll-back"]


def look(scratch):
    folder = scratch / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for end in ("", "-wal", "-journal"):
        if (STATE / f"dhashd.db{end}").exists():
            shutil.copy(STATE / f"dhashd.db{end}", folder)
    return Found(folder / "dhashd.db")


def check_promises(found, outside):
    """On the disk already, for what is not there no daemon can know."""
    for deployment in outside.deploys:
        demand(deployment in found.deployments, f"{deployment} was acknowledged and is lost")
    for deployment in outside.rollbacks:
        demand(found.rolled_back(deployment), f"the rollback of {deployment} was acknowledged and is lost")
    for service, step, deployment, _ in outside.execs:
        demand(deployment in found.deployments, f"the {step} hook of {deployment} ({service}) was begun, and the "
               "deployment is lost")
        demand(not step.endswith("rollback") or found.rolled_back(deployment),
               f"the {step} hook of {deployment} was begun, and the decision is lost")
    for number, event in outside.events.items():
        demand(found.events.get(number) == event, f"event {number} was told and is lost or another: {event}, "
               f"now {found.events.get(number)}")


def check_backups(found):
    for backup in found.backups:
        path = pathlib.Path(backup["path"])
        demand(path.exists(), f"backup {path} is in the database and not on the disk")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        demand(digest == backup["sha256"], f"backup {path} is not what the database says")
        sidecar = pathlib.Path(f"{path}.sha256")
        demand(not sidecar.exists() or sidecar.read_text() == f"{digest}  {path.name}\n", f"{sidecar} is wrong")


def check_releases():
    """What is marked as complete is; `current` names such a one."""
    for release in (SITE / "engine/releases").iterdir():
        marker = release / ".dhash-release"
        adopted = release.name == "g0"
        if release.name.startswith(".") or not (adopted or marker.exists()):
            continue
        if not adopted and not re.fullmatch(rf"tag={release.name}\nsha256=[0-9a-f]{{64}}\n", marker.read_text()):
            continue
        for path, content in release_files(release.name).items():
            demand((release / path).exists() and (release / path).read_bytes() == content,
                   f"{release} is marked as complete and its {path} is not")
    current = os.readlink(SITE / "engine/current")
    demand(re.fullmatch(r"releases/[gs]\d", current) and (SITE / "engine" / current).is_dir(),
           f"current names {current}, which is no release")
    demand(current == "releases/g0" or (SITE / "engine" / current / ".dhash-release").exists(),
           f"current names {current}, which is not complete")


def without_result(found, outside):
    """Hooks that were begun and of whose end the disk knows nothing: (deployment, words of the alert)."""
    waits = {"deploy": "deploying", "restart": "deploying", "rollback": "rolling-back.running",
             "restart-rollback": "rolling-back.running"}
    lost = []
    for _, step, deployment, _ in outside.execs:
        results = (STATE / "sessions" / deployment / "hooks").glob(f"{deployment}.{step}*.result")
        if found.deployments[deployment]["state"] == waits[step] and not list(results):
            lost.append((deployment, "deploy: " if waits[step] == "deploying" else "rollback: "))
    return lost


# --- the end of the next life

class Verdict:
    """Whether everything has ended as it must."""

    def __init__(self, found, lost, outside, outage, log):
        self.found, self.lost, self.outside, self.outage, self.log = found, lost, outside, outage, log
        self.calls = [line for name in PLANS for line in (OUTSIDE / name / "calls").read_text().splitlines()]

    def check(self):
        for word in COMPLAINTS:
            demand(word not in self.log, f"the journal says \"{word}\"")
        check_promises(self.found, self.outside)
        check_backups(self.found)
        check_releases()
        for deployment, begin in self.lost:
            demand(self.unknown(deployment, begin), f"{deployment}: {begin}was begun, has no result, and nobody was told")
        for deployment in self.found.deployments.values():
            self.check_one(deployment)
        for service in PLANS:
            mine = [d for d in self.found.deployments.values() if d["service"] == service]
            if mine:
                self.check_place(service, mine)

    def unknown(self, deployment, begin):
        return any(a["deployment"] == deployment and a["text"].startswith(begin) and any(w in a["text"] for w in UNKNOWN)
                   for a in self.found.alerts)

    def check_one(self, d):
        name = f"{d['id']} ({d['service']} {d['tag']}, {d['state']}: {d['outcome']})"
        demand(d["state"] in ENDED, f"{name} has not ended")
        decided = self.found.rolled_back(d["id"])
        demand(len(decided) <= 1, f"{name} was decided to go back {len(decided)} times")
        demand(d["state"] in self.ends(d, decided), f"{name} must not end so; may: {self.ends(d, decided)}")
        began = {step: sum(line.startswith(f"{step} {d['id']} ") for line in self.calls)
                 for step in ("deploy", "restart", "rollback", "restart-rollback")}
        demand(max(began.values()) <= 1, f"{name}: hooks were begun more than once: {began}")
        demand(began["deploy"] + began["restart"] == 1 or self.unknown(d["id"], "deploy: "),
               f"{name}: its deploy hook was never begun")
        demand(d["service"] != "engine" or d["target"] != f"releases/{d['tag']}", f"{name} went back to itself")
        demand(not decided or began["rollback"] + began["restart-rollback"] == 1 or self.unknown(d["id"], "rollback: "),
               f"{name}: its rollback hook was never begun")

    def ends(self, d, decided):
        """The states that a deployment may end in."""
        if decided:
            failed = self.unknown(d["id"], "rollback: ") or self.went_back_to_sick(d)
            return {"rolled-back", "rollback-failed"} if failed else {"rolled-back"}
        if d["tag"].startswith("g") and self.outage < 1:
            return {"succeeded"}
        if d["tag"].startswith("g") or self.outage >= 1 or self.unknown(d["id"], "deploy: "):
            return {"succeeded", "unverified"}
        return {"rolled-back"}

    def went_back_to_sick(self, d):
        if d["service"] == "engine":
            return d["target"].startswith("releases/s")
        return d["service"] == "restore" and (WORLD / APP).read_text().startswith("s")

    def check_place(self, service, mine):
        """What is in place is what the newest deployment left there."""
        last = mine[-1]
        kept = {d["tag"] for d in mine[:-1] if d["state"] in ("succeeded", "unverified")} | {"g0"}
        if service == "engine":
            current = os.readlink(SITE / "engine/current").removeprefix("releases/")
            demand(current in (kept if last["state"] == "rolled-back" else {last["tag"]} | kept),
                   f"current is {current} after {last['tag']} was {last['state']}")
        if service == "restore":
            app, config = (WORLD / APP).read_text().strip(), (WORLD / CONFIG).read_text().strip()
            demand(last["state"] != "rolled-back" or app == config and app in kept,
                   f"a mixture was restored: app {app}, conf {config}, may be {kept}")
