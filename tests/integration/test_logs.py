# SPDX-License-Identifier: Apache-2.0
"""dhash logs on real journal files, which systemd-journal-remote makes of what a test says."""

import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest

from harness import DHASH, PATIENCE, ROOT

REMOTE = "/lib/systemd/systemd-journal-remote"
BOOT = "0123456789abcdef0123456789abcdef"
LOG_C = (ROOT / "common/log.c").read_text()
START = 1704110400  # 2024-01-01 12:00:00 UTC
ID, OTHER = "deploy-20240101-120000", "deploy-20240101-130000"


def kind_id(kind):
    return re.search(r'\{"%s",\s*"([0-9a-f]{32})"\}' % kind, LOG_C).group(1)


class Journal:
    """A folder of journal files; records get one second each unless they say `at`."""

    def __init__(self, folder):
        self.folder, self.n, self.files = folder, 0, 0
        folder.mkdir()

    def entry(self, message, at=None, **fields):
        """A list for a value gives the field many times."""
        at = START + self.n if at is None else at
        self.n += 1
        out = (f"__REALTIME_TIMESTAMP={int(at * 1e6)}\n"
               f"__MONOTONIC_TIMESTAMP={int((at - START + 1000) * 1e6)}\n_BOOT_ID={BOOT}\n").encode()
        fields = {"MESSAGE": message, "PRIORITY": "6", "_TRANSPORT": "journal", **fields}
        for name, values in fields.items():
            for value in values if isinstance(values, list) else [values]:
                value = value if isinstance(value, bytes) else value.encode()
                out += name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        return out + b"\n"

    def daemon(self, message, deployment=None, **fields):
        if deployment:
            fields = {"DHASH_DEPLOYMENT": deployment, "DHASH_SERVICE": "shop",
                      "DHASH_ENVIRONMENT": "production", "DHASH_TAG": "v1.1.0", **fields}
        return self.entry(message, **{"_SYSTEMD_UNIT": "dhashd.service", "_PID": "77",
                                      "SYSLOG_IDENTIFIER": "dhashd", "_SYSTEMD_SLICE": "system.slice",
                                      **fields})

    def hook(self, message, step="deploy", unit_of=ID, deployment=ID, **fields):
        return self.entry(message, **{"_SYSTEMD_UNIT": f"dhash-hook@{unit_of}.{step}.service",
                                      "_PID": "88", "SYSLOG_IDENTIFIER": "dhash-hook",
                                      "_SYSTEMD_SLICE": "dhash.slice", "DHASH_KIND": "hook-output",
                                      "DHASH_DEPLOYMENT": deployment, "DHASH_SERVICE": "shop",
                                      "DHASH_ENVIRONMENT": "production", **fields})

    def systemd(self, message, unit, **fields):
        return self.entry(message, **{"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "UNIT": unit,
                                      "SYSLOG_IDENTIFIER": "systemd", **fields})

    def path(self):
        self.files += 1
        return self.folder / f"remote-{self.files}.journal"

    def write(self, *entries):
        done = subprocess.run([REMOTE, "-o", self.path(), "-"], input=b"".join(entries),
                              capture_output=True, timeout=60 * PATIENCE)
        assert done.returncode == 0, done.stderr

    def logs(self, *arguments, code=0, **popen):
        done = subprocess.run([DHASH, "--socket", "/nowhere/dhashd.sock", "logs", "--directory",
                               self.folder, *arguments], text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60 * PATIENCE, **popen)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def messages(self, *arguments):
        done = self.logs(*arguments, "--json")
        return [json.loads(line)["message"] for line in done.stdout.splitlines()]


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


@pytest.fixture
def story(journal):
    """A deployment with its hooks, another one, and things that are of no deployment."""
    j = journal
    j.write(j.daemon("dhashd guards 1 environments"),
            j.daemon("state: queued", ID, DHASH_KIND="state", MESSAGE_ID=kind_id("state")),
            j.systemd("Started hook", f"dhash-hook@{ID}.deploy.service"),
            j.hook("copying files"),
            j.daemon("state: watching", ID),
            j.hook("of the other", unit_of=OTHER, deployment=OTHER),
            j.daemon("other: queued", OTHER, DHASH_ENVIRONMENT="staging"),
            j.hook("putting back", step="rollback.1"),
            j.systemd("dhashd.service: Main process exited", "dhashd.service"),
            j.daemon("state: ROLLED-BACK", ID, PRIORITY="4"))
    return journal


# --- what is shown, and in which order


def test_everything_is_in_the_order_of_time(story):
    assert story.messages() == ["dhashd guards 1 environments", "state: queued", "copying files",
                                "state: watching", "of the other", "other: queued", "putting back",
                                "dhashd.service: Main process exited", "state: ROLLED-BACK"]


def test_a_deployment_is_shown_with_its_hooks_and_what_systemd_says_of_them(story):
    assert story.messages(ID) == ["state: queued", "Started hook", "copying files", "state: watching",
                                  "putting back", "state: ROLLED-BACK"]
    assert story.messages(OTHER) == ["of the other", "other: queued"]


def test_files_are_merged_in_the_order_of_time(journal):
    j = journal
    first = [j.daemon(f"{i}", ID, at=START + i) for i in range(0, 40, 2)]
    second = [j.hook(f"{i}", at=START + i) for i in range(1, 40, 2)]
    j.write(*second)
    j.write(*first)
    assert j.messages(ID) == [str(i) for i in range(40)]
    assert j.messages(ID, "-n", "7") == [str(i) for i in range(33, 40)]


def test_the_text_says_when_how_grave_from_whom_on_what(story):
    lines = story.logs().stdout.splitlines()
    assert lines[0] == "2024-01-01T12:00:00.000Z info     dhashd : dhashd guards 1 environments"
    assert lines[2] == (f"2024-01-01T12:00:03.000Z info     hook    {ID} shop/production: "
                        "copying files")
    assert lines[-1] == (f"2024-01-01T12:00:09.000Z warning  dhashd  {ID} shop/production: "
                         "state: ROLLED-BACK")
    assert ID not in "".join(line for line in story.logs(ID).stdout.splitlines()
                             if "systemd" not in line)


def test_json_has_the_fields(story):
    first = json.loads(story.logs(ID, "--json").stdout.splitlines()[0])
    assert first == {"at": "2024-01-01T12:00:01.000Z", "priority": "info", "source": "dhashd",
                     "unit": "dhashd.service", "kind": "state", "message_id": kind_id("state"),
                     "service": "shop", "environment": "production", "deployment": ID,
                     "tag": "v1.1.0", "rule": None, "decision": None, "actor_uid": None,
                     "message": "state: queued"}


# --- which are wanted


def test_lines_are_the_newest(story):
    everything = story.messages()
    for n in range(1, 12):
        assert story.messages("-n", str(n)) == everything[-n:]
        assert story.messages(f"-n{n}") == story.messages(f"--lines={n}") == everything[-n:]


def test_without_id_the_newest_hundred(journal):
    journal.write(*[journal.daemon(f"line {i}", ID) for i in range(250)])
    assert journal.messages() == [f"line {i}" for i in range(150, 250)]
    assert len(journal.messages(ID)) == len(journal.messages("--since", "2024-01-01")) == 250


def test_since(story):
    for when in ("2024-01-01 12:00:08", "2024-01-01T12:00:08.000Z"):
        assert story.messages("--since", when) == ["dhashd.service: Main process exited",
                                                   "state: ROLLED-BACK"]
        assert story.messages(ID, "--since", when, "-n", "5") == ["state: ROLLED-BACK"]
    ago = f"{int(time.time()) - START - 8 + 3600}s ago"
    assert len(story.messages("--since", ago)) == 9
    assert story.messages("--since", "1h") == []
    for bad in ("2024-13-01", "2024-02-31", "yesterday-ish", "12:61", ""):
        assert "is no time" in story.logs("--since", bad, code=2).stderr


def test_grep(story):
    assert story.messages("--grep", "rolled.back") == ["state: ROLLED-BACK"]
    assert story.messages("--grep", "Rolled.back") == []
    assert story.messages("--grep", "state: (queued|watching)$") == ["state: queued",
                                                                     "state: watching"]
    assert story.messages("--grep", "^state", "-n", "2") == ["state: watching", "state: ROLLED-BACK"]
    assert "no record matches" in story.logs("--grep", "nothing like it").stderr
    for bad, column in (("a(b", 2), ("(a|[b", 4), ("äö[", 3), ("a\\pL", 3)):
        said = story.logs("--grep", bad, code=2).stderr
        assert f'"{bad}" is no expression: column {column}:' in said
    assert "column 33: too many (" in story.logs("--grep", "(" * 100_000, code=2).stderr


def test_env_and_service(story):
    assert story.messages("--env", "staging") == ["other: queued"]
    assert story.messages("--service", "shop", "--env", "production", "-n", "1") == ["state: ROLLED-BACK"]
    assert story.messages("--service", "web") == []


# --- whom to believe

FORGED = [
    {"_SYSTEMD_UNIT": "user@1000.service", "_SYSTEMD_USER_UNIT": "dhashd.service"},
    {"_SYSTEMD_UNIT": "session-1.scope", "UNIT": "dhashd.service"},
    {"_SYSTEMD_UNIT": "evil.service", "SYSLOG_IDENTIFIER": "dhashd"},
    {"_SYSTEMD_UNIT": "evil.service", "SYSLOG_IDENTIFIER": "dhash-hook", "_SYSTEMD_SLICE": "dhash.slice"},
    {"_SYSTEMD_UNIT": "xdhashd.service"},
    {"_SYSTEMD_UNIT": "dhashd.service.evil.service"},
    {"_SYSTEMD_UNIT": b"dhashd.service\0"},
    {"_SYSTEMD_UNIT": "dhash-hook@.deploy.service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}..service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.scope"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.service.slice"},
    {"_SYSTEMD_UNIT": f"a-dhash-hook@{ID}.deploy.service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{OTHER}.deploy.service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}2.deploy.service"},
    {"_SYSTEMD_UNIT": "init.scope", "_PID": "4711", "UNIT": f"dhash-hook@{ID}.deploy.service"},
    {"_SYSTEMD_UNIT": "evil.service", "_PID": "1", "UNIT": f"dhash-hook@{ID}.deploy.service"},
    {"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "UNIT": f"dhash-hook@{OTHER}.deploy.service"},
    {"_SYSTEMD_UNIT": "init.scope", "_PID": "1", "UNIT": "evil.service"},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.service", "DHASH_DEPLOYMENT": OTHER},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.service", "DHASH_DEPLOYMENT": [ID, OTHER]},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.service", "DHASH_DEPLOYMENT": [OTHER, ID]},
    {"_SYSTEMD_UNIT": f"dhash-hook@{ID}.deploy.service", "DHASH_DEPLOYMENT": ID + "\0"},
    {"DHASH_DEPLOYMENT": ID},
]


@pytest.mark.parametrize("fields", FORGED, ids=range(len(FORGED)))
def test_a_forged_record_is_not_shown(journal, fields):
    j = journal
    forger = {"DHASH_DEPLOYMENT": ID, "DHASH_KIND": "decision", "DHASH_SERVICE": "shop",
              "DHASH_ENVIRONMENT": "production", "_PID": "666", **fields}
    # A real record of a hook of its beside it: its unit is known then.
    j.write(j.daemon("true", ID), j.hook("true, too"), j.entry("forged", **forger),
            j.daemon("true as well", ID))
    assert j.messages(ID) == ["true", "true, too", "true as well"]
    assert j.messages(ID, "-n", "2") == ["true, too", "true as well"]
    assert j.messages() == ["true", "true, too", "true as well"]


def test_only_forged_ones_are_none(journal):
    journal.write(journal.entry("forged", DHASH_DEPLOYMENT=ID, _SYSTEMD_UNIT="evil.service"))
    assert f"no record of deployment {ID}" in journal.logs(ID, code=4).stderr
    assert journal.messages() == []


def test_a_hook_is_called_a_hook_whatever_it_says(journal):
    journal.write(journal.hook("I decide", SYSLOG_IDENTIFIER="dhashd", DHASH_KIND="decision"))
    assert json.loads(journal.logs("--json").stdout)["source"] == "hook"
    assert " hook " in journal.logs().stdout


# --- what a record may hold

HOSTILE = [
    (b"a\x1b[2J\x1b]0;title\x07b", "a\\x1b[2J\\x1b]0;title\\x07b"),
    (b"one\n2024-01-01T00:00:00.000Z info dhashd : two\r", "one\\x0a2024-01-01T00:00:00.000Z info dhashd : two\\x0d"),
    (b"\xff\xfe\xc0\xaf", "\\xff\\xfe\\xc0\\xaf"),
    ("zero\0\u202eright to left\u009b31m", "zero\\x00\\xe2\\x80\\xaeright to left\\xc2\\x9b31m"),
]


@pytest.mark.parametrize("raw, shown", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_reaches_the_terminal_unescaped(journal, raw, shown):
    journal.write(journal.hook(raw, DHASH_SERVICE=raw, DHASH_KIND=raw))
    text = journal.logs().stdout
    assert text == f"2024-01-01T12:00:00.000Z info     hook    {ID} {shown}/production: {shown}\n"
    record = json.loads(journal.logs("--json").stdout)
    assert record["message"] == record["service"] == record["kind"] == shown


def test_a_line_without_end_is_cut(journal):
    journal.write(journal.hook("x" * 5_000_000), journal.hook("\x01" * 100_000))
    lines = journal.logs().stdout.splitlines()
    assert len(lines) == 2 and all(len(line) < 50_000 for line in lines)
    assert lines[0].endswith("xxx...") and lines[1].endswith("\\x01...")


def test_strange_priorities_are_survived(journal):
    journal.write(*[journal.hook("p", PRIORITY=p) for p in ("8", "-1", "", "77", "x", b"\xff")])
    assert [json.loads(line)["priority"] for line in journal.logs("--json").stdout.splitlines()] == \
        ["info"] * 6


def on_terminal(journal, **environment):
    main, side = pty.openpty()
    process = subprocess.Popen([DHASH, "logs", "--directory", journal.folder], stdin=subprocess.DEVNULL,
                               stdout=side, env={**os.environ, "TERM": "xterm", **environment})
    os.close(side)
    seen = b""
    while True:
        try:
            data = os.read(main, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
    os.close(main)
    assert process.wait(60 * PATIENCE) == 0
    return seen.decode()


def test_colours_are_for_terminals(story):
    assert "\033" not in story.logs().stdout
    seen = on_terminal(story)
    assert "\033[33mstate: ROLLED-BACK\033[0m" in seen
    assert "\033" not in on_terminal(story, NO_COLOR="1")


# --- what goes wrong


def test_no_journal(tmp_path, journal):
    assert "no journal in" in journal.logs(code=1).stderr
    done = subprocess.run([DHASH, "logs", "--directory", tmp_path / "none"], text=True,
                          capture_output=True)
    assert done.returncode == 1 and "no journal in" in done.stderr
    error = json.loads(journal.logs("--json", code=1).stdout)["error"]
    assert error["kind"] == "client" and "no journal" in error["message"]


def test_permission_denied(story):
    nobody = dict(user=65534, group=65534, extra_groups=[]) if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the test's own is closed to others
        os.chmod(folder, 0o755)
        program, file = f"{folder}/dhash", f"{folder}/x.journal"
        shutil.copy(DHASH, program)
        shutil.copy(next(story.folder.glob("*.journal")), file)
        os.chmod(file, 0o000)

        def logs():
            return subprocess.run([program, "logs", "--directory", folder, ID], text=True,
                                  capture_output=True, cwd="/", **nobody)
        done = logs()
        assert done.returncode == 77 and "permission denied" in done.stderr, done.stderr
        os.chmod(file, 0o444)
        assert logs().returncode == 0


def test_unknown_deployment(story):
    done = story.logs("deploy-20990101-000000", code=4)
    assert "no record of deployment deploy-20990101-000000" in done.stderr and not done.stdout
    story.logs("deploy-20990101-000000", "--follow", code=4)
    assert "is no id" in story.logs("../etc", code=2).stderr


def test_a_known_deployment_without_a_match_is_no_error(story):
    assert story.logs(ID, "--since", "1h").stdout == ""


def test_a_damaged_file_is_survived(story):
    bad = story.path()
    file = next(story.folder.glob("remote-1.journal"))
    data = file.read_bytes()
    bad.write_bytes(data[:len(data) // 2])
    (story.folder / "junk.journal").write_bytes(os.urandom(4096))
    (story.folder / "empty.journal").touch()
    assert story.messages(ID)[-1] == "state: ROLLED-BACK"


# --- following


class Following:
    def __init__(self, journal, *arguments):
        self.process = subprocess.Popen([DHASH, "logs", "--directory", journal.folder, "--follow",
                                         *arguments], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.seen = b""

    def wait(self, text, timeout=30):
        deadline = time.monotonic() + timeout * PATIENCE
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, (text, self.seen)
            if select.select([self.process.stdout], [], [], left)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, (text, self.seen, self.process.stderr.read())
                self.seen += data

    def memory(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"RssAnon:\s+(\d+)", status).group(1))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def following(story):
    started = []

    def start(*arguments):
        started.append(Following(story, *arguments))
        return started[-1]
    yield start
    for f in started:
        f.end()


def test_follow_shows_what_comes_and_ends_with_ctrl_c(story, following):
    f = following(ID)
    f.wait("ROLLED-BACK")
    # In a new file, as after a rotation; of a hook whose unit was not there before.
    story.write(story.daemon("news", ID), story.hook("from a new unit", step="rollback.2"),
                story.systemd("systemd on it", f"dhash-hook@{ID}.rollback.2.service"),
                story.entry("forged", DHASH_DEPLOYMENT=ID, _SYSTEMD_UNIT="evil.service"),
                story.daemon("of the other", OTHER), story.daemon("last", ID))
    f.wait("last")
    f.process.send_signal(signal.SIGINT)
    assert f.process.wait(60 * PATIENCE) == 0
    text = f.seen.decode()
    assert [text.count(t) for t in ("news", "from a new unit", "systemd on it", "queued")] == [1] * 4
    assert "forged" not in text and "of the other" not in text


def test_follow_everything_in_the_last_lines(story, following):
    f = following("-n", "1")
    f.wait("ROLLED-BACK")
    story.write(story.daemon("news"))
    f.wait("news")
    assert f.seen.decode().count("\n") == 2


def test_follow_shows_nothing_that_is_not_wanted(story, following):
    f = following("--grep", "xyzzy")
    story.write(story.daemon("news"), story.daemon("xyzzy 1"))
    f.wait("xyzzy 1")
    story.write(story.daemon("more news"), story.daemon("xyzzy 2"))
    f.wait("xyzzy 2")
    assert f.seen.decode().count("\n") == 2


def test_follow_ends_when_nobody_reads(following):
    f = following()
    f.wait("ROLLED-BACK")
    f.process.stdout.close()
    assert f.process.wait(60 * PATIENCE) == 0
    f.process.stdout = open(os.devnull)


def test_follow_survives_rotation_and_vacuuming_in_little_memory(story, following):
    f = following(ID)
    f.wait("ROLLED-BACK")
    before = None
    for turn in range(12):
        story.write(*[story.daemon(f"turn {turn} {i} " + "x" * 200, ID) for i in range(2000)],
                    story.daemon(f"end of turn {turn}", ID))
        f.wait(f"end of turn {turn}\n", timeout=60)
        for file in sorted(story.folder.glob("*.journal"), key=lambda p: p.stat().st_mtime)[:-1]:
            file.unlink()
        if turn == 2:
            before = f.memory()
        f.seen = f.seen[-1000:]
    grown = f.memory() - before
    print(f"anonymous memory after 3 turns {before} KiB, grown by {grown} KiB in 9 more")
    assert grown < 2048, (before, grown)
    story.write(story.daemon("it lives", ID))
    f.wait("it lives")
