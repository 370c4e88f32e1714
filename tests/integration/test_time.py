# SPDX-License-Identifier: Apache-2.0
"""Clocks: the guide's whole schedule of four hours, steps of the wall clock, sleeps of the machine, outages
of the daemon's own, and a package that comes meanwhile.  See timekit.py for how hours pass in seconds."""

import os
import shutil
import threading

import pytest

import harness
from harness import phases, service, wait_for
from timekit import HOUR, MINUTE, NEXT, YEAR, App, Clock, TimedDaemon, configuration

# phase: begin, end, interval, all from T+0; and what the tests take as its middle, just after a sample.
PHASES = {"critical": (0, 15 * MINUTE, 30), "stability": (15 * MINUTE, HOUR, 60),
          "extended": (HOUR, 4 * HOUR, 300)}
MIDDLE = {"critical": 5 * MINUTE, "stability": 30 * MINUTE, "extended": 2 * HOUR}
END = 4 * HOUR
RECHECK = 30


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path / "clock")


@pytest.fixture
def app(clock, started):
    started.append(App(clock))
    return started[-1]


@pytest.fixture
def site(tmp_path, app):
    return harness.Site(tmp_path / "site", app.url)


@pytest.fixture
def daemon(tmp_path, clock, started):
    started.append(TimedDaemon(tmp_path / "dhashd", clock))
    return started[-1]


class Watch:
    """One deployment under the default policy, and its records in core time from T+0."""

    def __init__(self, daemon, clock, app, site, **keys):
        self.daemon, self.clock, self.app, self.site = daemon, clock, app, site
        daemon.configure("dhash", configuration(site, app.url, **keys))
        daemon.start()
        self.id = daemon.deploy("v1.0.0")

    def begin(self):
        """Until T+0."""
        self.daemon.wait_state(self.id, "settling", timeout=60)
        self.clock.run(31)
        self.find_zero()
        return self

    def find_zero(self):
        (self.t0, core, boottime), = self.rows("SELECT t0, core, boottime FROM deployments d, clock WHERE d.id = ?",
                                               self.id)
        self.zero = (self.t0 - core + boottime) / 1e6   # T+0 as the moved clock has it

    def rows(self, sql, *values):
        base = self.daemon.database()
        try:
            return base.execute(sql, values).fetchall()
        finally:
            base.close()

    def to(self, since):
        self.clock.run_until(self.zero + since)

    def just_after_sample(self, since):
        """To 10 s after the first sample from then on."""
        self.to(since)
        due = self.spread + since
        self.to(due + 10)
        assert self.samples()[-1][0] >= due

    @property
    def spread(self):
        """Of this environment's grid."""
        return int(self.samples()[0][0])

    def samples(self, kind=0):
        """(time since T+0, result, wall minus core time) of each since T+0; kind 0 is health."""
        return [((at - self.t0) / 1e6, result, (wall - at) / 1e6) for at, result, wall in self.rows(
            "SELECT at, result, wall FROM samples WHERE deployment = ? AND kind = ? AND at >= ? ORDER BY at",
            self.id, kind, self.t0)]

    def bad(self):
        return [at for at, result, _ in self.samples() if result == 1]

    def decided(self, kind="roll-back"):
        """When, since T+0; None when it was not."""
        found = self.rows("SELECT at FROM decisions WHERE deployment = ? AND kind = ?", self.id, kind)
        assert len(found) <= 1, found
        return (found[0][0] - self.t0) / 1e6 if found else None

    def wait_sample(self, before):
        wait_for(lambda: len(self.samples()) > before, "a sample is taken")

    def end(self, state):
        """Time goes on until long after the schedule."""
        self.to(END + HOUR)
        found = self.daemon.show(self.id)
        assert found["state"] == state, (found["state"], found["outcome"])
        return found

    def undisturbed(self):
        """All that the guide's schedule has, and nothing else."""
        due = [begin + self.spread + k * interval for begin, end, interval in PHASES.values()
               for k in range((end - begin) // interval)] + [END]
        for kind in (0, 1):
            got = [at for at, _, _ in self.samples(kind)]
            assert len(got) == len(due) == 30 + 45 + 36 + 1
            late = [at - on for at, on in zip(got, due)]
            assert min(late) >= 0 and max(late) < RECHECK, late
        assert not self.bad()
        assert END <= self.decided("promote") < END + 2 * RECHECK


@pytest.fixture
def watch(daemon, clock, app, site):
    return Watch(daemon, clock, app, site).begin()


def test_the_default_schedule(watch, daemon):
    watch.to(END - 1)
    assert daemon.deployment()["state"] == "watching" and watch.decided("promote") is None
    found = watch.end("succeeded")
    watch.undisturbed()
    assert found["alerts"] == [], "nothing is to be said of a healthy service"
    said = [line.split("phase: phase ")[1] for line in daemon.log().splitlines() if "phase: phase " in line]
    assert said == ["critical: every 30s until T+15min", "stability: every 1min until T+1h",
                    "extended: every 5min until T+4h"]


# --- steps of the wall clock ---

def test_steps_of_the_wall_clock_change_nothing(watch, clock, daemon):
    watch.to(MINUTE)
    away, stepped = watch.samples()[0][2], 0
    honest = []
    for since, step in ((2, HOUR), (4, -YEAR), (14, 1), (16, YEAR), (40, -HOUR), (59, -1), (61, -YEAR),
                        (150, 2 * YEAR), (239, -HOUR)):
        watch.to(since * MINUTE)
        honest.append((since * MINUTE, stepped))
        clock.step(step)
        stepped += step
    honest.append((END + HOUR, stepped))
    watch.end("succeeded")
    watch.undisturbed()
    assert daemon.log().count("the wall clock was set") == 9
    for at, _, off in watch.samples():
        by = next(by for until, by in honest if at < until)
        assert abs(off - away - by) < 0.5, "the stamp is what the wall clock said"


@pytest.mark.parametrize("phase", PHASES)
def test_failed_rounds_count_through_steps(watch, clock, app, phase):
    watch.just_after_sample(MIDDLE[phase])
    app.behave(up=False)
    for step in (YEAR, -HOUR, -YEAR):
        before = len(watch.bad())
        clock.step(step)
        clock.run(PHASES[phase][2] if before == 0 else RECHECK)
        assert len(watch.bad()) == before + 1
    decided, bad = watch.decided(), watch.bad()
    assert decided and bad[2] <= decided < bad[2] + RECHECK
    assert [round(b - a) for a, b in zip(bad, bad[1:])] == [RECHECK, RECHECK]


def breach(watch, clock, app, phase, disturb):
    """30 % errors; returns when it is decided, since they began."""
    watch.just_after_sample(MIDDLE[phase])
    began = clock.now() - watch.zero
    app.behave(errors=0.3)
    for _ in range(40):
        clock.run(RECHECK)
        if watch.decided():
            return watch.decided() - began
        disturb(clock.now() - watch.zero - began)
    raise AssertionError("never decided")


@pytest.fixture
def another(tmp_path, started):
    """The same world once more, for comparison."""
    place = tmp_path / "another"
    place.mkdir()
    clock = Clock(place / "clock")
    started.append(App(clock))
    site = harness.Site(place / "site", started[-1].url)
    started.append(TimedDaemon(place / "dhashd", clock))
    return Watch(started[-1], clock, started[-2], site).begin()


@pytest.mark.parametrize("phase", PHASES)
def test_a_breach_counts_through_steps(watch, another, clock, app, phase):
    expected = breach(another, another.clock, another.app, phase, lambda _: None)
    steps = iter([HOUR, -YEAR, YEAR, -HOUR, 1, -1] * 7)
    got = breach(watch, clock, app, phase, lambda _: clock.step(next(steps)))
    # Ten intervals of 30 s may be 299.999 s: then it is decided with the next.
    assert abs(got - expected) < RECHECK + 5, (got, expected)
    assert got >= 5 * MINUTE - 11, "its clock starts with the sample before, which was 10 s ago"


# --- gaps: the machine sleeps, or the daemon is away ---

def sleep(daemon, clock, seconds):
    clock.suspend(seconds)


def killed(daemon, clock, seconds):
    daemon.kill()
    clock.pass_by(seconds)
    daemon.start()


def stopped(daemon, clock, seconds):
    daemon.stop()
    clock.pass_by(seconds)
    daemon.start()


# Coverage of 90 %: of 15 min, 45 min, 180 min.
OUTCOME = {"critical": {1: "succeeded", 5: "unverified", 15: "unverified", 60: "unverified"},
           "stability": {1: "succeeded", 5: "unverified", 15: "unverified", 60: "unverified"},
           "extended": {1: "succeeded", 5: "succeeded", 15: "succeeded", 60: "unverified"}}
GAPS = ([(sleep, phase, minutes) for phase in PHASES for minutes in (1, 5, 15, 60)] +
        [(killed, phase, minutes) for phase in PHASES for minutes in (1, 5, 15)] +
        [(stopped, "stability", 5)])


@pytest.mark.parametrize("gap, phase, minutes", GAPS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_a_gap_is_unobserved_and_nothing_else(watch, clock, daemon, gap, phase, minutes):
    watch.just_after_sample(MIDDLE[phase])
    before = watch.samples()
    gap(daemon, clock, minutes * MINUTE)
    if minutes * MINUTE >= PHASES[phase][2]:
        watch.wait_sample(len(before))  # at once: no more time has to pass
        assert watch.samples()[len(before)][0] < before[-1][0] + minutes * MINUTE + 2 * RECHECK
    assert daemon.deployment()["state"] == "watching"
    watch.end(OUTCOME[phase][minutes])
    assert not watch.bad() and watch.decided() is None
    kind = "promote" if OUTCOME[phase][minutes] == "succeeded" else "hold"
    assert END <= watch.decided(kind) < END + 2 * RECHECK
    after = [at for at, _, _ in watch.samples() if at > before[-1][0] + minutes * MINUTE + 2 * RECHECK]
    due = [begin + watch.spread + k * interval for begin, end, interval in PHASES.values()
           for k in range((end - begin) // interval)] + [END]
    assert all(any(0 <= at - on < RECHECK for on in due) for at in after), "the grid did not move"


@pytest.mark.parametrize("gap", [sleep, killed])
@pytest.mark.parametrize("recovers", [False, True])
def test_a_gap_adds_nothing_to_a_breach(watch, clock, daemon, app, gap, recovers):
    watch.just_after_sample(MIDDLE["stability"])
    began = clock.now() - watch.zero
    app.behave(errors=0.3)
    clock.run(3 * MINUTE)
    assert watch.decided() is None and daemon.environment()["verdict"] == "suspect"
    if recovers:
        app.behave(errors=0.0)
    gap(daemon, clock, 15 * MINUTE)
    clock.run(40)
    assert watch.decided() is None, "what nobody saw is not on the clock"
    if recovers:
        clock.run(HOUR)
        assert watch.decided() is None
        return
    clock.run(6 * MINUTE)
    assert watch.decided() is not None
    assert began + 20 * MINUTE - RECHECK <= watch.decided() <= began + 24 * MINUTE


@pytest.mark.parametrize("gap", [sleep, killed])
@pytest.mark.parametrize("phase", PHASES)
def test_what_turned_bad_in_a_gap_is_rolled_back_soon_after(watch, clock, daemon, app, gap, phase):
    watch.just_after_sample(MIDDLE[phase])
    app.behave(up=False)
    before = len(watch.samples())
    gap(daemon, clock, 10 * MINUTE)
    watch.wait_sample(before)
    back = clock.now() - watch.zero
    assert watch.decided() is None
    clock.run(2 * RECHECK + 5)
    assert len(watch.bad()) == 3 and watch.decided() <= back + 2 * RECHECK + 5
    assert daemon.show(watch.id)["rollbacks"] == 1


def test_a_check_that_slept_says_nothing(watch, clock, daemon, app):
    """Two rounds failed; the third is on its way when the machine sleeps, and its peer is gone then."""
    app.keeps = False  # libcurl asks again where a kept connection is gone
    watch.just_after_sample(MIDDLE["critical"])
    app.behave(up=False)
    clock.run(2 * RECHECK)
    assert len(watch.bad()) == 2
    app.up, app.hang_ups, app.stall = True, 1, threading.Event()
    app.asked.clear()
    before = len(watch.samples())
    clock.let_run(RECHECK)
    assert app.asked.wait(10 * harness.PATIENCE)
    clock.suspend(5 * MINUTE)
    app.stall.set()
    app.stall = None
    watch.wait_sample(before)
    assert len(watch.bad()) == 2 and watch.decided() is None
    wait_for(lambda: "the machine slept" in daemon.log(), "it is told")
    clock.run(5 * MINUTE)
    assert watch.decided() is None and daemon.deployment()["state"] == "watching"


# --- hooks ---

@pytest.mark.parametrize("minutes, state", [(15, "settling"), (60, "rolled-back")])
def test_a_hook_sleeps_with_the_machine(daemon, clock, app, site, minutes, state):
    """Its deadline of 30 min goes on."""
    site.hold("deploy")
    watch = Watch(daemon, clock, app, site)
    wait_for(lambda: site.hook_running("deploy"), "the hook runs")
    clock.suspend(minutes * MINUTE)
    if state == "settling":
        assert daemon.show(watch.id)["state"] == "deploying"
        site.release("deploy")
        watch.begin().end("succeeded")
        watch.undisturbed()
        return
    daemon.wait_state(watch.id, "verifying")
    site.release("deploy")
    clock.run(MINUTE)
    found = daemon.show(watch.id)
    assert found["state"] == state and "still running at its deadline of 30min" in found["rollback_reason"]
    assert len(site.calls("rollback", "start")) == 1


# --- another version comes ---

def upgrade(daemon):
    old = daemon.version()
    daemon.install(NEXT)
    daemon.stop()
    daemon.start()
    assert daemon.version() == f"{old}+next"


def into_gates(watch):
    watch.daemon.wait_state(watch.id, "gates")


def into_backup(watch):
    wait_for(lambda: watch.daemon.show(watch.id)["state"] == "backup", "the backup is made", interval=0.001)


def into_deploying(watch):
    wait_for(lambda: watch.site.hook_running("deploy"), "the hook runs")


def into_settling(watch):
    watch.daemon.wait_state(watch.id, "settling")
    watch.clock.run(10)
    assert watch.daemon.show(watch.id)["state"] == "settling"


def into_watching(since):
    def into(watch):
        watch.begin()
        watch.just_after_sample(since)
        assert watch.daemon.show(watch.id)["state"] == "watching"
    return into


def into_rolling_back(watch):
    watch.begin()
    watch.just_after_sample(MIDDLE["critical"])
    watch.app.behave(up=False)
    watch.clock.let_run(3 * RECHECK)
    wait_for(lambda: watch.site.hook_running("rollback"), "the rollback hook runs")


def into_verifying(watch):
    into_rolling_back(watch)
    watch.site.release("rollback")
    watch.daemon.wait_state(watch.id, "verifying")


STATES = {"gates": into_gates, "backup": into_backup, "deploying": into_deploying, "settling": into_settling,
          "critical": into_watching(MIDDLE["critical"]), "stability": into_watching(MIDDLE["stability"]),
          "extended": into_watching(MIDDLE["extended"]), "rolling-back": into_rolling_back,
          "verifying": into_verifying}


@pytest.mark.parametrize("state", STATES)
def test_an_upgrade_in_each_state(daemon, clock, app, site, state):
    rolls_back = state in ("rolling-back", "verifying")
    if state == "gates":
        app.gate = threading.Event()
    if state == "backup":
        (site.root / "app/ballast").write_bytes(os.urandom(40_000_000))
    if state == "deploying":
        site.hold("deploy")
    if rolls_back:
        site.hold("rollback")
    if state == "verifying":
        site.behave("v1.0.0")
        site.behave("default", health="down")
    watch = Watch(daemon, clock, app, site)
    STATES[state](watch)
    upgrade(daemon)
    if app.gate:
        app.gate.set()
        app.gate = None
    for step in ("deploy", "rollback"):
        site.release(step)
    if rolls_back:
        app.behave(up=True)
        daemon.wait_state(watch.id, "verifying", "rolled-back")
        app.behave(up=True)
        clock.run(HOUR)
        found = daemon.show(watch.id)
        assert found["state"] == "rolled-back" and found["rollbacks"] == 1
        assert len([at for at in watch.bad() if at <= watch.decided()]) == 3
        assert len(site.calls("rollback", "start")) == 1
    else:
        if state in ("gates", "backup", "deploying", "settling"):
            watch.begin()
        found = watch.end("succeeded")
        assert [d["kind"] for d in found["decisions"]] == ["promote"]
    if state in ("gates", "backup", "deploying", "settling"):
        watch.undisturbed()
    assert len(site.calls("deploy", "start")) == len(site.calls("deploy", "end")) == 1


# --- the kernel's own time namespaces ---

def test_another_time_namespace(tmp_path, started, sample):
    """Another boot time from life to life, as after a sleep or in a container that is moved."""
    if os.geteuid() != 0:
        pytest.skip("*** TIME NAMESPACES NOT TRIED: they need root ***")
    assert shutil.which("unshare"), "unshare is in util-linux"
    site = harness.Site(tmp_path / "site", sample.url)

    class Spaced(harness.Daemon):
        def start_shifted(self, seconds):
            self.process = harness.Process(
                ["unshare", "--time", "--kill-child", "--boottime", seconds, "--monotonic", seconds,
                 harness.DHASHD, "-c", self.conf, "--state", self.state, "--socket", self.socket],
                self.log_path)
            wait_for(self.answers_shifted, "dhashd answers")

        def answers_shifted(self):
            try:
                return self.api("GET", "/v1/version")[0] == 200
            except OSError:
                return False

        def left(self):
            return self.environment()["phase"]["left_ms"] / 1000

        def samples(self, deployment):
            return len(self.show(deployment)["samples"])

    daemon = Spaced(tmp_path / "dhashd")
    started.append(daemon)
    daemon.configure("dhash", service(site.root, harness.environment("production", sample.url),
                                      phases(("critical", "2h", "100ms"))))
    daemon.start()
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")
    left = daemon.left()
    # An hour that only the boot time knows of.
    daemon.kill()
    daemon.start_shifted(HOUR)
    assert daemon.left() <= left - HOUR
    left = daemon.left()
    seen = daemon.samples(deployment)
    wait_for(lambda: daemon.samples(deployment) > seen, "it is watched on")
    # And back: time does not run backwards for that.
    daemon.process.popen.kill()
    daemon.process.popen.wait()
    wait_for(lambda: not daemon.answers_shifted(), "it is gone")
    daemon.start()
    assert daemon.left() <= left
    seen = daemon.samples(deployment)
    wait_for(lambda: daemon.samples(deployment) > seen, "it is watched on")
    found = daemon.show(deployment)
    assert found["state"] == "watching" and found["decisions"] == []
    assert daemon.environment()["phase"]["name"] == "critical"
