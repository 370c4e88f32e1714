# SPDX-License-Identifier: Apache-2.0
"""Stops and crashes of the daemon in the middle of a deployment."""

import os
import pathlib
import signal

import pytest

from harness import environment, phases, service, wait_for


def start(daemon, site, url, *watch, **keys):
    watch = watch or (("critical", "3s", "100ms"),)
    daemon.configure("dhash", service(site.root, environment("production", url, **keys), phases(*watch)))
    daemon.start()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_watching_goes_on(daemon, site, sample, how):
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")
    before = daemon.show(deployment)
    getattr(daemon, how)()
    daemon.start()
    after = daemon.show(deployment)
    assert after["state"] == "watching" and after["t0_at"] == before["t0_at"]
    assert daemon.environment()["phase"]["left_ms"] < 3000
    found = daemon.wait_state(deployment, "succeeded")
    assert len(site.calls("deploy", "start")) == 1
    assert [d["kind"] for d in found["decisions"]] == ["promote"]


def test_failed_rounds_before_and_after_a_crash_count_together(daemon, site, sample):
    start(daemon, site, sample.url, ("critical", "30s", "400ms"), Recheck="400ms")
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")
    sample.control(health="down")
    wait_for(lambda: any(s["result"] == "bad" for s in daemon.show(deployment)["samples"]), "a bad round")
    daemon.kill()
    daemon.start()
    found = daemon.wait_state(deployment, "verifying", "rolled-back")
    decision = [d for d in found["decisions"] if d["kind"] == "roll-back"]
    assert len(decision) == 1
    bad = [s for s in found["samples"] if s["result"] == "bad" and s["at"] <= decision[0]["at"]]
    assert len(bad) == 3


@pytest.mark.parametrize("step, state", [("deploy", "deploying"), ("rollback", "rolling-back.running")])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_running_hook_is_attached_to_again(daemon, site, sample, step, state, how):
    site.hold(step)
    if step == "rollback":
        site.behave("v1.0.0", health="down")
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    wait_for(lambda: site.hook_running(step), f"the {step} hook runs")
    getattr(daemon, how)()
    assert site.hook_running(step) and not site.calls(step, "end")
    daemon.start()
    assert daemon.show(deployment)["state"] == state
    site.release(step)
    daemon.wait_state(deployment, "succeeded" if step == "deploy" else "rolled-back")
    assert len(site.calls(step, "start")) == len(site.calls(step, "end")) == 1


def runner_of(daemon, deployment):
    """The process of dhash-hook that works for this deployment of this daemon: ids are the same everywhere."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"dhash-hook") and any(os.fsencode(daemon.session(deployment)) in w for w in words[1:]):
            return int(process.name)
    raise AssertionError(f"no dhash-hook for {deployment}")


@pytest.mark.parametrize("health, end", [("up", "succeeded"), ("down", "rolled-back")])
def test_killed_runner_is_an_unknown_end_judged_by_health(daemon, site, sample, health, end):
    site.hold("deploy")
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    wait_for(lambda: site.hook_running("deploy"), "the deploy hook runs")
    sample.control(health=health)
    os.kill(runner_of(daemon, deployment), signal.SIGKILL)
    wait_for(lambda: "it is not run again" in daemon.log(), "the unknown end is told")
    if health == "down":
        daemon.wait_state(deployment, "rolling-back.running", "verifying")
        sample.control(health="up")
    found = daemon.wait_state(deployment, end)
    assert len(site.calls("deploy", "start")) == 1
    assert any(a["level"] == "critical" for a in found["alerts"])


def test_hook_that_ended_while_the_daemon_was_away(daemon, site, sample):
    site.hold("deploy")
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    wait_for(lambda: site.hook_running("deploy"), "the deploy hook runs")
    daemon.kill()
    site.release("deploy")
    wait_for(lambda: site.calls("deploy", "end"), "the hook ends")
    daemon.start()
    daemon.wait_state(deployment, "succeeded")
    assert len(site.calls("deploy", "start")) == 1


def test_ended_deployments_stay_ended(daemon, site, sample):
    site.behave("v1.0.0", health="down")
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "rolled-back")
    calls = site.calls()
    daemon.kill()
    daemon.start()
    assert daemon.show(deployment)["state"] == "rolled-back"
    second = daemon.deploy("v2.0.0")
    daemon.wait_state(second, "succeeded")
    assert site.calls()[:len(calls)] == calls


def test_sigterm_leaves_no_socket_and_says_so(daemon, site, sample):
    start(daemon, site, sample.url)
    daemon.stop()
    assert not daemon.socket.exists()
    assert "stop" in daemon.log().splitlines()[-1].lower()


def test_damaged_database_is_set_aside_and_named(daemon, site, sample):
    start(daemon, site, sample.url)
    daemon.stop()
    (daemon.state / "dhashd.db").write_bytes(b"this is no database" * 100)
    for end in ("-wal", "-shm"):
        (daemon.state / f"dhashd.db{end}").unlink(missing_ok=True)
    daemon.start()
    assert list(daemon.state.glob("dhashd.db.corrupt-*"))
    assert "corrupt" in daemon.log()
    daemon.wait_state(daemon.deploy("v1.0.0"), "succeeded")
