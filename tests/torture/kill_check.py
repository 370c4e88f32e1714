# SPDX-License-Identifier: Apache-2.0
"""What a run of the kill sweep came to: compared with the undisturbed run of the same scenario, and
with what must hold in any.  `faults(run, reference)` lists every difference.
"""

import collections
import hashlib
import itertools
import json
import shutil
import sqlite3

from kill_world import ENDED


def rows(base, sql, *values):
    return base.execute(sql, values).fetchall()


def states_of(events):
    """The states in the order they were entered; notes of a restart aside."""
    names = [e["state"] for e in events if e["kind"] == "state" and "goes on after a restart" not in e["text"]]
    return [name for name, _ in itertools.groupby(names)]


def outcome(run, base):
    """What must be the same, however often the daemon was killed."""
    shown = run.shown[1]
    events = [json.loads(line) for line in run.all_events]
    decided = collections.Counter((d["kind"], d["rule"]) for d in shown["decisions"])
    return {
        "state": shown["state"],
        "decisions": sorted(map(str, decided.items())),
        "decisions told": sum(e["kind"] == "decision" for e in events),
        "states": states_of(events),
        "automatic rollbacks": (shown["auto_rollbacks"], shown["rollbacks"], shown["rollback_auto"]),
        "hooks": [" ".join(line.split()[:2]) for line in run.world.ledger_lines()],
        "in place": (run.world.site / "app/release").read_text().strip(),
        "deployments": sorted((d["tag"], d["state"]) for d in run.history),
        "marked": rows(base, "SELECT tag FROM bad_tags ORDER BY tag"),
        "backups": sorted(rows(base, "SELECT emergency, tag FROM backups WHERE deployment = ?", run.id)),
        "left over": run.world.leftovers(),
        "session": sorted(p.relative_to(session(run)).as_posix().replace(run.id, "ID")
                          for p in session(run).rglob("*") if p.is_file()),
    }


def session(run):
    return run.world.state / "sessions" / run.id


def event_faults(run):
    """No number is missing, and nothing that a reader was told has been forgotten or changed."""
    numbers = [json.loads(line)["seq"] for line in run.all_events]
    if numbers != list(range(run.base + 1, run.base + 1 + len(numbers))):
        yield f"numbers of events: {numbers}, after {run.base}"
    known = set(run.all_events)
    for line in run.events:
        if line not in known:
            yield f"told to a reader, and lost: {line.decode().strip()}"


def acknowledged_faults(run):
    ids = [d["id"] for d in run.history]
    if run.acknowledged and run.acknowledged not in ids:
        yield f"acknowledged and lost: {run.acknowledged}; there are {ids}"
    expected = {"succeeded": 0, "rolled-back": 5}.get(run.shown[1]["state"], 1)
    if run.client_output and run.client.returncode != expected:
        if not (run.client.returncode == 69 and run.kills):
            yield f"the client ends with {run.client.returncode}: {run.client_output[-500:]}"


def hook_faults(run):
    """Started once at most; what began and has no end is unknown and pages somebody."""
    starts = collections.Counter(line for line in run.world.ledger_lines() if line.split()[1] == "start")
    for line, times in starts.items():
        if times > 1:
            yield f"started {times} times: {line}"
    hooks = session(run) / "hooks"
    unknown = [p.name for p in hooks.glob("*.started") if not p.with_suffix(".result").exists()]
    critical = [a for a in run.shown[1]["alerts"] if a["level"] == "critical" and a["cause"] == "hook"]
    if unknown and not critical:
        yield f"{unknown} has no result, and nobody was paged: {run.shown[1]['alerts']}"
    if unknown and not run.runners_killed:
        yield f"{unknown} has no result, though no runner was killed"
    if critical and not unknown:
        yield f"somebody was paged for nothing: {critical}"


# Not before these are on disk may the hook of the step have been started.
UNAUTHORISED = {"deploy": ("queued", "gates", "backup"), "restart": ("queued", "gates", "backup")}
ROLLING_BACK = ("rolling-back.running", "verifying", "rolled-back", "rollback-failed")


def stored_states(world):
    """What is on disk between two lives; the database itself is not touched."""
    copy = world.folder / "copy.db"
    for end in ("", "-wal"):
        shutil.copy(world.state / f"dhashd.db{end}", f"{copy}{end}")
    base = sqlite3.connect(copy)
    try:
        return dict(rows(base, "SELECT id, state FROM deployments"))
    finally:
        base.close()


def authorised_faults(world):
    """Hooks that were started before the transaction that allows it was on disk."""
    started = [p.name.split(".") for p in world.state.glob("sessions/*/hooks/*.started")]
    states = stored_states(world) if started else {}
    found = []
    for name, step, *_ in started:
        state = states.get(name, "nothing")
        if state in UNAUTHORISED.get(step, ()) or state == "nothing" or (
                "rollback" in step and state not in ROLLING_BACK):
            found.append(f"the hook {step} was started while only {state} was on disk")
    return found


def backup_faults(run, base):
    recorded = dict(rows(base, "SELECT path, sha256 FROM backups"))
    for path, digest in recorded.items():
        with open(path, "rb") as f:
            if hashlib.sha256(f.read()).hexdigest() != digest:
                yield f"backup {path} is not what was recorded"
    for path in (run.world.state / "backups").glob("*.zip"):
        if str(path) not in recorded:
            yield f"backup {path.name} is on disk and in no record"


def store_faults(run, base):
    found = rows(base, "PRAGMA integrity_check")
    if found != [("ok",)]:
        yield f"integrity of the store: {found}"
    live = rows(base, "SELECT id, state FROM deployments")
    for name, state in live:
        if state not in ENDED:
            yield f"{name} is left in {state}"
    if any(run.world.state.glob("dhashd.db.corrupt-*")):
        yield "the store was set aside as damaged"


def session_faults(run):
    ids = {d["id"] for d in run.history}
    for path in (run.world.state / "sessions").iterdir():
        if path.name not in ids:
            yield f"a session's folder without a deployment: {path.name}"
    log = (session(run) / "session.log").read_text()
    if log.count("Deployment Session: ") != 1:
        yield f"session.log has no head, or several: {log[:300]!r}"


def difference(found, reference):
    for key, expected in reference.items():
        if found[key] != expected:
            yield f"{key}: {found[key]}, undisturbed {expected}"


def unknown_faults(run, found, reference):
    """In place of the comparison, when a runner died: health decides what becomes of the deployment."""
    if found["left over"] and found["left over"] != reference["left over"]:
        yield f"left over: {found['left over']}"
    if found["state"] not in ("succeeded", "rolled-back", "rollback-failed", "unverified"):
        yield f"state {found['state']}"
    if found["automatic rollbacks"][0] > 1 or found["decisions told"] > 1:
        yield f"decided more than once: {found['decisions']}"


def faults(run, reference):
    """Every fault, as text; and what the run came to."""
    base = sqlite3.connect(run.world.state / "dhashd.db")
    try:
        found = outcome(run, base)
        parts = [event_faults(run), acknowledged_faults(run), hook_faults(run), backup_faults(run, base),
                 store_faults(run, base), session_faults(run), run.at_kill]
        if run.shown[0] != 200:
            parts.append([f"the deployment cannot be shown: {run.shown}"])
        if reference and run.runners_killed:
            parts.append(unknown_faults(run, found, reference))
        elif reference:
            parts.append(difference(found, reference))
        return [text for part in parts for text in part], found
    finally:
        base.close()
