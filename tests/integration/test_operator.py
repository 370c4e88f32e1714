# SPDX-License-Identifier: Apache-2.0
"""What operators do: staging first, busy, supersede, abort, rollback by hand, reload."""

import pathlib

from harness import environment, phases, section, service, wait_for

LONG = (("critical", "30s", "100ms"),)


def start(daemon, site, url, watch=LONG, **keys):
    daemon.configure("dhash", service(site.root, environment("production", url, **keys), phases(*watch)))
    daemon.start()


def audit(daemon):
    """The whole audit trail as text, one act a line."""
    base = daemon.database()
    try:
        return "\n".join(" ".join(map(str, row)) for row in base.execute("SELECT * FROM audit"))
    finally:
        base.close()


def test_staging_comes_first(daemon, site, sample):
    daemon.configure("dhash", service(site.root, environment("staging", sample.url),
                                      environment("production", sample.url, After="staging"), phases()))
    daemon.start()
    refused = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0")
    assert refused.returncode == 1
    said = refused.stdout + refused.stderr
    assert "staging" in said and "--force" in said and not site.calls()

    done = daemon.dhash("deploy", "--env", "staging", "--tag", "v1.0.0")
    assert done.returncode == 0, done.stdout + done.stderr
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0")
    assert done.returncode == 0, done.stdout + done.stderr

    done = daemon.dhash("deploy", "--env", "production", "--tag", "v2.0.0", "--force", "--reason",
                        "staging is being rebuilt")
    assert done.returncode == 0, done.stdout + done.stderr
    found = daemon.deployment()
    assert daemon.show(found["id"])["forced"]
    assert daemon.show(found["id"])["reason"] == "staging is being rebuilt"
    assert "staging is being rebuilt" in audit(daemon)


def test_force_wants_a_reason(daemon, site, sample):
    start(daemon, site, sample.url)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0", "--force")
    assert done.returncode == 2 and "--reason" in done.stderr
    assert daemon.deployment() is None


def test_busy_names_the_holder(daemon, site, sample):
    start(daemon, site, sample.url)
    first = daemon.deploy("v1.0.0", lead="@ann")
    status, answer = daemon.api("POST", "/v1/deployments", {"environment": "production", "tag": "v2.0.0"})
    assert status == 409 and answer["error"]["kind"] == "busy"
    assert first in answer["error"]["message"]
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v2.0.0")
    assert done.returncode == 1 and first in done.stderr and "--supersede" in done.stderr


def test_wait_lock_begins_when_the_holder_has_ended(daemon, site, sample):
    start(daemon, site, sample.url, watch=(("critical", "2s", "100ms"),))
    first = daemon.deploy("v1.0.0")
    daemon.wait_state(first, "watching")
    gave_up = daemon.dhash("deploy", "--env", "production", "--tag", "v2.0.0", "--wait-lock", "--timeout", "100ms")
    assert gave_up.returncode == 8 and first in gave_up.stderr and "nothing was deployed" in gave_up.stderr
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v2.0.0", "--wait-lock")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.in_place() == "v2.0.0"
    kept = daemon.get("/v1/deployments")["deployments"]
    assert [(d["tag"], d["state"]) for d in kept] == [("v2.0.0", "succeeded"), ("v1.0.0", "succeeded")]


def test_supersede_starts_a_fresh_clock(daemon, site, sample):
    start(daemon, site, sample.url)
    first = daemon.deploy("v1.0.0")
    daemon.wait_state(first, "watching")
    second = daemon.deploy("v2.0.0", supersede=True)
    assert second != first
    daemon.wait_state(first, "superseded")
    found = daemon.wait_state(second, "watching")
    assert found["previous_tag"] == "v1.0.0"
    assert all(s["at"] >= found["created_at"] for s in found["samples"])


def test_abort_only_before_anything_changed(daemon, site, sample):
    # The gates wait for a metrics source that takes connections and never answers.
    import socket
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/metrics"
        text = service(site.root, environment("production", sample.url, MetricsURL=url, Timeout="20s"),
                       phases(*LONG), section("Metrics", {"Requests": "r", "Errors": "e"}))
        daemon.configure("dhash", text)
        daemon.start()
        held = daemon.deploy("v1.0.0")
        daemon.wait_state(held, "gates")
        done = daemon.dhash("abort", "--env", "production", "--yes", "--reason", "wrong tag")
        assert done.returncode == 0, done.stdout + done.stderr
        daemon.wait_state(held, "aborted")
        assert not site.calls()
    daemon.stop()
    start(daemon, site, sample.url)
    late = daemon.deploy("v1.0.0")
    daemon.wait_state(late, "watching")
    done = daemon.dhash("abort", "--env", "production", "--yes")
    assert done.returncode == 1 and "rollback" in done.stderr
    assert daemon.deployment()["state"] == "watching"


def test_rollback_by_hand_goes_to_the_backup_of_the_deployment(daemon, site, sample):
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")
    done = daemon.dhash("rollback", "--env", "production", "--yes", "--reason", "customers complain")
    assert done.returncode == 0, done.stdout + done.stderr
    found = daemon.wait_state(deployment, "rolled-back")
    assert site.in_place() == "v0" and not found["rollback_auto"]
    assert "customers complain" in found["rollback_reason"] and "customers complain" in audit(daemon)
    # An emergency backup of v1.0.0 was taken before.
    kept = daemon.get("/v1/backups?service=dhash&environment=production")["backups"]
    assert [b["tag"] for b in kept if b["emergency"]] == ["v1.0.0"]


def test_status_during_and_after_a_rollback(daemon, site, sample):
    """A rollback that goes on is no good news; what follows it is a phase with its time left."""
    start(daemon, site, sample.url, PostWatch="60s")
    first = daemon.deploy("v1.0.0")
    daemon.wait_state(first, "watching")
    site.hold("rollback")
    assert daemon.dhash("rollback", "--env", "production", "--yes", "--no-wait").returncode == 8
    wait_for(lambda: site.hook_running("rollback"), "the rollback hook runs")
    shown = daemon.dhash("status", "--env", "production")
    assert shown.returncode == 1 and "ROLLING BACK" in shown.stdout and "HEALTHY" not in shown.stdout
    site.release("rollback")
    daemon.wait_state(first, "rolled-back")
    phase = daemon.environment()["phase"]
    assert phase["name"] == "post-rollback" and 0 < phase["left_ms"] <= 60000
    shown = daemon.dhash("status", "--env", "production")
    assert shown.returncode == 0 and "; post-rollback, " in shown.stdout


def test_status_after_a_failed_rollback(daemon, site, sample):
    start(daemon, site, sample.url)
    first = daemon.deploy("v1.0.0")
    daemon.wait_state(first, "watching")
    site.fail("rollback")
    sample.control(health="down")
    daemon.wait_state(first, "rollback-failed")
    assert daemon.environment()["phase"] == {"name": "recovery", "left_ms": None, "index": 0, "count": 1}
    shown = daemon.dhash("status", "--env", "production")
    assert shown.returncode == 1 and "; recovery, until it is back" in shown.stdout
    sample.control(health="up")
    wait_for(lambda: daemon.environment()["phase"] is None, "the watching after it ends")


def test_rollback_to_a_tag_and_to_a_file(daemon, site, sample):
    start(daemon, site, sample.url, watch=(("critical", "300ms", "100ms"),), PostWatch="100ms")
    for tag in ("v1", "v2", "v3"):
        assert daemon.dhash("deploy", "--env", "production", "--tag", tag).returncode == 0
    done = daemon.dhash("rollback", "--env", "production", "--to", "v1", "--force", "--reason", "test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.in_place() == "v1"
    kept = daemon.get("/v1/backups?service=dhash&environment=production")["backups"]
    newest = next(b for b in kept if b["tag"] == "v2" and not b["emergency"])
    assert daemon.dhash("deploy", "--env", "production", "--tag", "v4").returncode == 0
    done = daemon.dhash("rollback", "--env", "production", "--backup", newest["path"], "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.in_place() == "v2"


def test_corrupt_backup_is_paged_and_the_next_verified_one_used(daemon, site, sample):
    start(daemon, site, sample.url, watch=(("critical", "300ms", "100ms"),), PostWatch="100ms")
    assert daemon.dhash("deploy", "--env", "production", "--tag", "v1").returncode == 0
    deployment = daemon.deploy("v2")
    found = daemon.wait_state(deployment, "succeeded")
    backup = pathlib.Path(found["backup"])
    damaged = bytearray(backup.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    backup.write_bytes(damaged)
    done = daemon.dhash("backups", "verify")
    assert done.returncode == 1 and backup.name in done.stdout + done.stderr
    done = daemon.dhash("rollback", "--env", "production", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.in_place() == "v0"
    shown = daemon.show(deployment)
    assert shown["target"] != str(backup) and shown["target_verified"]
    assert any(a["cause"] == "backup" and a["level"] == "critical" for a in shown["alerts"])
    assert backup.name in daemon.log()


def test_rollback_to_what_is_not_there_changes_nothing(daemon, site, sample, tmp_path):
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1")
    daemon.wait_state(deployment, "watching")
    for where, name in (("--to", "v0.9"), ("--backup", str(tmp_path / "slip.zip")), ("--backup", str(tmp_path))):
        done = daemon.dhash("rollback", "--env", "production", where, name, "--yes")
        assert done.returncode == 4 and name in done.stderr, done.stdout + done.stderr
    assert daemon.show(deployment)["state"] == "watching"
    assert site.in_place() == "v1"


def test_rollback_asks_on_a_terminal(daemon, site, sample):
    import os
    import pty
    import subprocess
    from harness import DHASH
    start(daemon, site, sample.url)
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")

    def answer(word):
        ours, theirs = pty.openpty()
        client = subprocess.Popen([DHASH, "--socket", daemon.socket, "rollback", "--env", "production"],
                                  stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        asked = b""

        def read():
            nonlocal asked
            try:
                asked += os.read(ours, 4096)
            except OSError:
                return True
            return word is None or b"rollback" in asked.lower()
        wait_for(read, "a question")
        os.write(ours, word.encode() + b"\n")
        code = client.wait(30)
        os.close(ours)
        return code
    assert answer("no") != 0
    assert daemon.deployment()["state"] == "watching" and not site.calls("rollback")


def test_unknown_names(daemon, site, sample):
    start(daemon, site, sample.url)
    assert daemon.dhash("status", "nothing").returncode == 4
    assert daemon.dhash("deploy", "--env", "nowhere", "--tag", "v1").returncode == 4
    assert daemon.dhash("show", "deploy-20200101-000000").returncode == 4
    assert daemon.dhash("deploy", "--env", "production").returncode == 2
    bad = daemon.dhash("deploy", "--env", "production", "--tag", "../../etc")
    assert bad.returncode == 2 or bad.returncode == 1
    assert daemon.deployment() is None
    daemon.stop()
    gone = daemon.dhash("status")
    assert gone.returncode == 69 and "not running" in gone.stderr


def test_waiting_rides_out_a_restart_of_the_daemon(daemon, site, sample, started):
    import subprocess
    from harness import DHASH
    start(daemon, site, sample.url, watch=(("critical", "2s", "100ms"),))
    client = subprocess.Popen([DHASH, "--socket", daemon.socket, "deploy", "--env", "production", "--tag",
                               "v1.0.0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: (daemon.deployment() or {}).get("state") == "watching", "watching")
    daemon.kill()
    daemon.start()
    out, _ = client.communicate(timeout=30)
    assert client.returncode == 0, out
