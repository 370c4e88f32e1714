# SPDX-License-Identifier: Apache-2.0
"""The main job: deploy, watch, and roll back by itself, told alike everywhere."""

import pathlib
import socket
import subprocess

import harness
from harness import METRICS, Nginx, environment, phases, section, service, wait_for

LONG = (("critical", "5s", "100ms"), ("stability", "10s", "200ms"), ("extended", "30s", "200ms"))


def start(daemon, site, url, *parts, watch=harness.PHASES, metrics=True, **keys):
    keys = {"MetricsURL": f"{url}/metrics", **keys} if metrics else keys
    daemon.configure("dhash", service(site.root, environment("production", url, **keys), phases(*watch),
                                      *parts, METRICS if metrics else ""))
    daemon.start()


def sha256sum_check(sidecar):
    return subprocess.run(["sha256sum", "-c", sidecar.name], cwd=sidecar.parent, check=False,
                          capture_output=True, text=True)


def test_a_good_release_succeeds(daemon, site, sample, load):
    start(daemon, site, sample.url)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0", "--lead", "@ops")
    assert done.returncode == 0, done.stdout + done.stderr
    found = daemon.deployment()
    shown = daemon.show(found["id"])
    assert (found["tag"], found["state"], shown["lead"]) == ("v1.0.0", "succeeded", "@ops")
    assert daemon.environment()["release"] == sample.version() == site.in_place() == "v1.0.0"
    assert len(site.calls("deploy", "start", found["id"])) == 1 and not site.calls("rollback")
    assert [d["kind"] for d in shown["decisions"]] == ["promote"]
    # Every state and phase is in the journal, in order.
    journal, at = daemon.log(), 0
    for word in ("gates", "backup", "deploying", "settling", "watching", "succeeded"):
        at = journal.find(word, at)
        assert at >= 0, f"{word} is missing, or in the wrong place"
    assert all(f"{name}" in journal for name in ("critical", "stability", "extended"))
    # The backup is of what was there before, as the guide names it, and sha256sum agrees.
    backup = pathlib.Path(shown["backup"])
    assert backup.name.startswith("dhash-production-") and backup.suffix == ".zip"
    assert sha256sum_check(backup.with_name(backup.name + ".sha256")).returncode == 0
    packed = subprocess.run(["unzip", "-p", backup, "app/release"], capture_output=True, text=True, check=True)
    assert packed.stdout == "v0\n"
    assert "this is the deploy hook of production" in (daemon.session(found["id"]) / "deploy.log").read_text()


def test_errors_roll_back_and_all_records_agree(daemon, site, sample, load):
    start(daemon, site, sample.url, section("Rule error-rate", {"Limit": "10%", "For": "2s"}),
          watch=(("critical", "1s", "100ms"), ("stability", "4s", "100ms")))
    assert daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0").returncode == 0
    site.behave("v1.1.0", errors=0.2)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.1.0")
    assert done.returncode == 5, done.stdout + done.stderr
    assert site.in_place() == sample.version() == daemon.environment()["release"] == "v1.0.0"

    found = daemon.deployment()
    assert (found["state"], found["tag"]) == ("rolled-back", "v1.1.0")
    assert "error" in found["rollback_reason"]
    shown = daemon.show(found["id"])
    decisions = [d for d in shown["decisions"] if d["kind"] == "roll-back"]
    assert len(decisions) == 1 and decisions[0]["automatic"] and decisions[0]["rule"] == "error-rate"
    evidence = decisions[0]["evidence"]
    assert 0.15 < evidence["value"] < 0.25 and evidence["lower"] > evidence["limit"] == 0.1
    assert evidence["requests"] >= 40 and evidence["lasted_ms"] >= 2000
    assert shown["auto_rollbacks"] == 1 and shown["target"] == shown["backup"] and shown["target_verified"]
    assert len(site.calls("rollback", "start", found["id"])) == 1
    assert site.calls("rollback", "start")[0].endswith("backup=" + shown["backup"])

    explained = daemon.dhash("explain", found["id"])
    assert explained.returncode == 0 and "error-rate" in explained.stdout and "10" in explained.stdout
    history = daemon.get("/v1/deployments")["deployments"]
    assert [(d["tag"], d["state"]) for d in history] == [("v1.1.0", "rolled-back"), ("v1.0.0", "succeeded")]
    assert "rolled-back" in daemon.dhash("history").stdout
    status = daemon.dhash("status")
    assert "v1.0.0" in status.stdout and "rolled" in status.stdout

    session = daemon.session(found["id"])
    assert "v1.1.0" in (session / "session.log").read_text()
    for name in ("deploy.log", "monitor.log", "rollback.log"):
        assert (session / name).stat().st_size > 0, name
    report = (session / "incident-report.md").read_text()
    assert "v1.1.0" in report and "[TIME]" not in report and "Rollback initiated" in report
    journal = [line for line in daemon.log().splitlines() if found["id"] in line]
    assert any("error-rate" in line and "roll" in line for line in journal)
    assert any("rolled-back" in line or "rolled back" in line for line in journal)
    # The tag is known as bad from now on.
    again = daemon.dhash("deploy", "--env", "production", "--tag", "v1.1.0", "--no-wait")
    assert again.returncode != 8 or daemon.wait_state(daemon.deployment()["id"], "rejected")


def test_slow_answers_roll_back(daemon, site, sample, load):
    start(daemon, site, sample.url, section("Rule latency-p95", {"Limit": "250ms", "For": "1s"}), watch=LONG)
    site.behave("v1.1.0", latency=400)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.1.0")
    assert done.returncode == 5, done.stdout + done.stderr
    decision = [d for d in daemon.show(daemon.deployment()["id"])["decisions"] if d["kind"] == "roll-back"]
    assert [d["rule"] for d in decision] == ["latency-p95"]
    assert sample.version() == "v0"


def test_outage_behind_nginx_rolls_back_after_three_rounds(daemon, site, sample, started, tmp_path):
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(folder, sample.port)
    started.append(nginx)
    start(daemon, site, nginx.url, metrics=False, watch=LONG)
    deployment = daemon.deploy("v1.1.0")
    daemon.wait_state(deployment, "watching")
    # The backend dies: nginx answers 502.  The rollback hook must not need it.
    (site.root / "dead").touch()
    sample.end()
    daemon.wait_state(deployment, "verifying", "rolled-back")
    assert site.in_place() == "v0"
    back = harness.Service(tmp_path / "service", port=sample.port)
    started.append(back)
    found = daemon.wait_state(deployment, "rolled-back")
    decision = [d for d in found["decisions"] if d["kind"] == "roll-back"]
    assert len(decision) == 1 and decision[0]["rule"] == "health"
    assert decision[0]["evidence"]["failures"] == 3
    # Exactly three failed rounds in a row before the decision, and nginx's answer is named.
    rounds = [s for s in found["samples"] if s["kind"] == "health" and s["at"] <= decision[0]["at"]]
    assert [s["result"] for s in rounds[-4:]] == ["ok", "bad", "bad", "bad"]
    assert "502" in rounds[-1]["detail"]


def test_one_bad_round_is_no_reason(daemon, site, sample):
    start(daemon, site, sample.url, metrics=False, watch=(("critical", "2s", "300ms"),), Recheck="300ms")
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")
    sample.control(health="down")
    wait_for(lambda: daemon.environment()["health"]["result"] == "bad", "a bad round")
    sample.control(health="up")
    found = daemon.wait_state(deployment, "succeeded")
    assert any(s["result"] == "bad" for s in found["samples"])
    assert any(a["cause"] == "health" and a["resolved_at"] for a in found["alerts"])


def test_failing_deploy_hook_rolls_back(daemon, site, sample):
    site.fail("deploy")
    start(daemon, site, sample.url, metrics=False)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0")
    assert done.returncode == 5, done.stdout + done.stderr
    found = daemon.show(daemon.deployment()["id"])
    assert found["state"] == "rolled-back" and found["rollback_auto"]
    assert "status 3" in found["rollback_reason"]
    assert site.in_place() == "v0" and len(site.calls("rollback", "start")) == 1


def test_failing_rollback_pages_and_watches_until_restored(daemon, site, sample):
    site.fail("rollback")
    site.behave("v1.1.0", health="down")
    start(daemon, site, sample.url, metrics=False, watch=LONG)
    deployment = daemon.deploy("v1.1.0")
    found = daemon.wait_state(deployment, "rollback-failed")
    assert len(site.calls("rollback", "start")) == 1
    assert any(a["cause"] == "rollback" and a["level"] == "critical" for a in found["alerts"])
    sample.control(health="up")
    wait_for(lambda: "restored" in daemon.log().lower(), "the service is said to be restored")
    assert daemon.show(deployment)["auto_rollbacks"] == 1
    assert len(site.calls("rollback", "start")) == 1


def test_hook_that_does_not_end_is_killed_at_its_deadline(daemon, site, sample):
    site.hold("deploy")
    start(daemon, site, sample.url, metrics=False, DeployTimeout="500ms")
    deployment = daemon.deploy("v1.0.0")
    found = daemon.wait_state(deployment, "rolled-back")
    assert len(site.calls("deploy", "start")) == 1 and not site.calls("deploy", "end")
    assert "deadline" in found["rollback_reason"]


def test_observe_mode_only_says_what_it_would_do(daemon, site, sample):
    start(daemon, site, sample.url, section("Rule health", {"Mode": "observe"}), metrics=False)
    site.behave("v1.1.0", health="down")
    deployment = daemon.deploy("v1.1.0")
    wait_for(lambda: "would-roll-back" in [d["kind"] for d in daemon.show(deployment)["decisions"]],
             "it says that it would roll back")
    # Nothing is promoted while it is down, not even past the schedule's end.
    wait_for(lambda: "watching on" in daemon.log(), "the schedule is over")
    assert daemon.show(deployment)["state"] == "watching"
    sample.control(health="up")
    daemon.wait_state(deployment, "succeeded")
    assert not site.calls("rollback")


def test_metric_that_the_source_lacks_is_refused_before_anything_changes(daemon, site, sample):
    start(daemon, site, sample.url)
    daemon.configure("dhash", (daemon.conf / "services.d/dhash.conf").read_text()
                     .replace("Requests=http_requests_total", "Requests=http_request_total"))
    daemon.stop()
    daemon.start()
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "http_request_total" in done.stdout + done.stderr
    assert daemon.deployment()["state"] == "rejected" and not site.calls()
    assert "gate: metrics FAILED" in daemon.log()


def test_dry_run_changes_nothing(daemon, site, sample):
    start(daemon, site, sample.url)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "deploy_dhash.sh" in done.stdout
    status, answer = daemon.api("POST", "/v1/deployments",
                                {"environment": "production", "tag": "v1.0.0", "dry_run": True})
    assert status == 200 and answer["ok"] and answer["gates"] and answer["plan"]
    assert daemon.deployment() is None and not site.calls()
    assert daemon.dhash("status").returncode == 3
    (site.root / "scripts/deploy_dhash.sh").chmod(0o644)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0", "--dry-run")
    assert done.returncode == 1 and "chmod +x" in done.stdout + done.stderr


def test_body_and_status_of_the_health_check(daemon, site, sample):
    start(daemon, site, sample.url, metrics=False, Expect="200", Body="^fine$")
    daemon.deploy("v1.0.0")
    wait_for(lambda: "body" in (daemon.environment()["health"]["detail"] or ""), "the body is found wrong")


def test_events_tell_the_same_story_and_can_be_resumed(daemon, site, sample):
    start(daemon, site, sample.url, metrics=False)
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "succeeded")
    connection = harness.UnixConnection(daemon.socket, 5)

    def events(after):
        connection.request("GET", f"/v1/events?after={after}&limit=1000&deployment={deployment}")
        return [harness.json.loads(line) for line in connection.getresponse().read().splitlines()]
    told = events(0)
    connection.close()
    assert [e["seq"] for e in told] == sorted({e["seq"] for e in told})
    states = [e["state"] for e in told if e["kind"] == "state"]
    assert states[-1] == "succeeded" and "watching" in states
    half = told[len(told) // 2]["seq"]
    assert [e["seq"] for e in events(half)] == [e["seq"] for e in told if e["seq"] > half]


def test_tcp_address_that_refuses_is_a_bad_round(daemon, site, sample):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start(daemon, site, address, metrics=False)
        deployment = daemon.deploy("v1.0.0")
        found = daemon.wait_state(deployment, "rollback-failed")
        assert "refused" in " ".join(s["detail"] for s in found["samples"]).lower()
