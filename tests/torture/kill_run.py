# SPDX-License-Identifier: Apache-2.0
"""One run of the kill sweep: a deployment, the daemon killed at a chosen system call and started
again until everything is over, and what was seen on the way.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import kill_check
from kill_world import BUILD, ENDED, PATIENCE, RUNNER, SCENARIOS, UnixConnection

DHASHD, DHASH, KILLER = BUILD / "dhashd", BUILD / "dhash", BUILD / "tests/torture/killer"
LIMIT = 60 * PATIENCE  # for anything at all to happen


class Stuck(AssertionError):
    pass


@dataclasses.dataclass
class Plan:
    """What a run does; the same plan meets another interleaving each time."""
    index: int
    seed: int
    scenario: str = "hooks"
    at: int = 0  # the call; 0 = none, the undisturbed run
    changing: bool = False  # counted among those that change something
    exit: bool = False  # killed after the call's effect
    spawn: int = 0  # counted from the start of so manieth child
    wait: int = 0  # ms that the thread stands still before
    again: tuple = ()  # calls (of those that change something) at which the next lives end
    slow: bool = False  # hooks take 50 ms
    runner: bool = False  # the runner dies along with the daemon
    late: bool = False  # the runner stands still until the next daemon is up
    client: bool = False  # the real client asks and waits

    def text(self):
        how = f"{'changing ' * self.changing}call {self.at}{' (after it)' * self.exit}"
        if self.spawn:
            how += f" from the start of child {self.spawn} on, {self.wait} ms late"
        more = [f"then at {list(self.again)}"] if self.again else []
        more += [w for w, on in (("slow hooks", self.slow), ("runner killed too", self.runner), ("late runner", self.late),
                                 ("by the real client", self.client)) if on]
        return f"{self.scenario}: {how}{''.join(', ' + m for m in more)}"


def lives(process):
    """A zombie is gone, but for its parent."""
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Life:
    """One process of dhashd, traced or not."""

    def __init__(self, world, at=None, **kill):
        argv = [DHASHD, "-c", world.conf, "--state", world.state, "--socket", world.socket]
        if at is not None:
            flags = [word for name, value in kill.items() if value
                     for word in ([f"--{name}"] if value is True else [f"--{name}", int(value)])]
            argv = [KILLER, "--at", at, *flags, *argv]
        self.traced, self.report = at is not None, None
        with open(world.log, "ab") as log:
            self.process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=subprocess.PIPE if self.traced else log)
        self.pid = self.process.pid
        if self.traced:
            self.pid = int(self.process.stdout.readline().split()[1])

    def gone(self):
        return self.process.poll() is not None

    def terminate(self):
        if not self.gone():
            try:
                os.kill(self.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass  # killed, and its killer is about to say so

    def end(self):
        """Waits for the end; what the killer says, as a list, or the exit status."""
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Stuck(f"dhashd does not end within {LIMIT:g} s") from None
        if not self.traced:
            return self.process.returncode
        lines = self.process.stdout.read().decode().split()
        self.process.stdout.close()
        if not lines:
            raise Stuck(f"the killer says nothing; its status is {self.process.returncode}")
        return lines


class Run:
    """A plan carried out in a world."""

    def __init__(self, world, plan):
        self.world, self.plan, self.scenario = world, plan, SCENARIOS[plan.scenario]
        self.chance = random.Random(f"{plan.seed}/{plan.index}")
        self.base = 0  # the number of the last event of the template
        self.events = []  # lines of the stream, as they came
        self.last_state = "starting"
        self.id = None  # of the deployment; known from an answer, or found
        self.acknowledged = self.client = self.client_output = None
        self.kills = []  # (count, call, thread, state)
        self.missed, self.calls, self.runners_killed = False, 0, 0
        self.standing = []  # runners that were stopped
        self.at_kill = []  # faults that were seen between two lives
        self.began = time.monotonic()

    def check_time(self, what):
        if time.monotonic() - self.began > LIMIT * 3:
            raise Stuck(f"not in time: {what}")

    # --- talking ---

    def connect(self, life):
        """A connection to the daemon, or None when it ended before it listened."""
        while True:
            connection = UnixConnection(self.world.socket, LIMIT)
            try:
                connection.connect()
                return connection
            except OSError:
                if life.gone():
                    return None
            self.check_time("dhashd listens")
            time.sleep(0.002)

    @staticmethod
    def ask(connection, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def find(self, connection):
        """The deployment that was asked for, when the answer was lost."""
        status, answer = self.ask(connection, "GET", "/v1/deployments?service=dhash&environment=production")
        assert status == 200, (status, answer)
        found = [d["id"] for d in answer["deployments"] if d["tag"] == self.scenario.tag]
        assert len(found) <= 1, f"deployed twice: {found}"
        return found[0] if found else None

    def start_client(self):
        argv = [DHASH, "--socket", self.world.socket, "deploy", "--service", "dhash", "--env", "production",
                "--tag", self.scenario.tag, "--json"]
        self.client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT)

    def deploy(self, connection):
        """Asks for the deployment, unless that was done in an earlier life."""
        found = self.find(connection)
        assert not self.acknowledged or found == self.acknowledged, f"acknowledged and lost: {self.id}; found {found}"
        self.id = self.id or found
        if self.plan.client and self.client is None and not self.id:
            self.start_client()
        while self.client and not self.id and self.client.poll() is None:
            self.check_time("the client is heard")
            self.id = self.find(connection)
            time.sleep(0.005)
        self.id = self.id or self.find(connection)
        if self.id:
            return
        body = {"service": "dhash", "environment": "production", "tag": self.scenario.tag}
        status, answer = self.ask(connection, "POST", "/v1/deployments", body)
        assert status == 202, (status, answer)
        self.id = self.acknowledged = answer["id"]

    def heed(self, line):
        event = json.loads(line)
        if "seq" not in event:
            self.check_time("the deployment goes on")
            return False
        self.events.append(line)
        if event["kind"] == "state" and event["state"]:
            self.last_state = event["state"]
        return event["kind"] == "state" and event["state"] in ENDED and event["tag"] == self.scenario.tag

    def follow(self, connection):
        """Reads events until the deployment has ended: True, or the daemon has: False."""
        after = json.loads(self.events[-1])["seq"] if self.events else self.base
        connection.request("GET", f"/v1/events?after={after}&follow=1")
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        while True:
            line = answer.readline()
            if not line.endswith(b"\n"):
                return False
            if self.heed(line):
                return True

    def everything_ends(self, life):
        """Until the deployment has ended in this life; False: the life ended before."""
        asking, following = self.connect(life), self.connect(life)
        # One that stands still before its exec() holds the old daemon's listening socket, too.
        stood = bool(self.standing)
        self.let_go()
        try:
            if asking is None or following is None:
                return False
            if self.ended_already():
                return True
            self.deploy(asking)
            return self.follow(following)
        except (OSError, http.client.HTTPException):
            if not life.traced and not stood:
                raise
            return False  # killed in the middle of an answer
        finally:
            for connection in (asking, following):
                if connection:
                    connection.close()

    def ended_already(self):
        return self.last_state in ENDED

    # --- lives ---

    def let_go(self):
        """Runners that stood still go on, a moment after the next daemon listens."""
        if self.standing:
            time.sleep(self.chance.random() * 0.04)
        for pid in self.standing:
            with contextlib.suppress(ProcessLookupError):  # it had ended when it was told to stand
                os.kill(pid, signal.SIGCONT)
        self.standing = []

    def kill_runners(self, children):
        """As when everything of the daemon's dies at once."""
        for pid in children:
            self.wait_gone(pathlib.Path("/proc", pid))
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"dhash-hook" and os.fsencode(self.world.state) in words[1]:
                os.kill(int(process.name), signal.SIGKILL)
                self.runners_killed += 1
                self.wait_gone(process)

    def wait_gone(self, process):
        while lives(process):
            self.check_time("a killed runner ends")
            time.sleep(0.002)

    def traced_life(self, at, **kill):
        children = signal.SIGKILL if self.plan.runner else signal.SIGSTOP if self.plan.late else 0
        life = Life(self.world, at, children=children, **kill)
        try:
            if self.everything_ends(life):
                # The watch after the end, and the stop, are killed as well.
                deadline = time.monotonic() + self.chance.random() * 0.12
                while time.monotonic() < deadline and not life.gone():
                    time.sleep(0.005)
        finally:
            life.terminate()
            words = life.end()
        self.calls = int(words[1])
        if words[0] == "killed":
            self.kills.append((int(words[1]), int(words[2]), int(words[3]), self.last_state))
            self.at_kill += kill_check.authorised_faults(self.world) if self.plan.spawn else []
            if self.plan.late:
                self.standing += map(int, words[4:])
            if self.plan.runner:
                self.runners_killed += len(words[4:])
                self.kill_runners(words[4:])
        elif int(words[2]) == signal.SIGTERM and self.plan.late:
            pass  # it was told to end before it listened for that: a child of the dead one had answered
        elif int(words[2]) != 0:
            raise AssertionError(f"dhashd ended by itself, wait status {words[2]}")
        return words[0] == "killed"

    def last_life(self):
        """Untraced, to the end; what the daemon itself says about it."""
        life = Life(self.world)
        try:
            while not self.everything_ends(life):
                assert not life.gone(), "dhashd ended by itself"
                self.check_time("the deployment ends")
            connection = self.connect(life)
            assert connection, "dhashd ended by itself"
            self.id = self.id or self.find(connection)
            self.wait_report(connection)
            self.shown = self.ask(connection, "GET", f"/v1/deployments/{self.id}")
            connection.request("GET", f"/v1/events?after={self.base}&limit=100000")
            self.all_events = connection.getresponse().read().splitlines(keepends=True)
            self.history = self.ask(connection, "GET", "/v1/deployments?limit=100")[1]["deployments"]
            connection.close()
            if self.client:
                self.client_output = self.client.communicate(timeout=LIMIT)[0].decode()
        finally:
            life.terminate()
            status = life.end()
        assert status == 0, f"dhashd ends with status {status}"

    def wait_report(self, connection):
        """It is written a moment after the end."""
        report = self.world.state / "sessions" / self.id / "incident-report.md"
        deadline = time.monotonic() + LIMIT
        reported = self.last_state in ("rolled-back", "rollback-failed")
        while reported and not report.exists() and time.monotonic() < deadline:
            time.sleep(0.002)

    def carry_out(self):
        p = self.plan
        self.world.reset(p.scenario, p.slow, RUNNER if p.runner else None)
        if p.at or p.index < 0:
            self.missed = not self.traced_life(p.at, changing=p.changing, exit=p.exit, spawn=p.spawn, wait=p.wait)
        for at in p.again:
            if not self.missed:
                self.traced_life(at, changing=True)
        self.last_life()

    def done(self):
        self.let_go()
        if self.client and self.client.poll() is None:
            self.client.kill()
            self.client.wait()
