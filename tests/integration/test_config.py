# SPDX-License-Identifier: Apache-2.0
"""dhashd -t, and reloading: all errors in one run, all or nothing."""

import subprocess

from harness import DHASHD, environment, phases, section, service, wait_for

LONG = (("critical", "30s", "100ms"),)


def check(daemon):
    return subprocess.run([DHASHD, "-t", "-c", daemon.conf], capture_output=True, text=True, check=False)


def test_every_error_is_reported_in_one_run(daemon, tmp_path):
    daemon.configure("a", "[Service]\nWorkingDirectory=/tmp\n[Environment production]\n"
                     "HealthURL=ftp://x/\nSettel=1s\nWatch=soon\n[Rule error-rate]\nTreshold=10%\nLimit=1000%\n"
                     "[Phaes critical]\nUntil=1s\n")
    daemon.configure("b", "[Environment x]\nAfter=nowhere\nHealthURL=http://127.0.0.1/\n")
    done = check(daemon)
    assert done.returncode == 78
    lines = done.stdout.splitlines() + done.stderr.splitlines()
    for line, words in ((5, ("Settel", "Settle")), (6, ("Watch",)), (8, ("Treshold",)), (9, ("Limit",)),
                        (10, ("Phaes", "Phase"))):
        assert any(f"a.conf:{line}:" in found and all(w in found for w in words) for found in lines), (line, lines)
    assert any("b.conf" in found and "nowhere" in found for found in lines), lines


def test_a_good_configuration_passes(daemon, tmp_path):
    daemon.configure("a", service(tmp_path, environment("production", "http://127.0.0.1:1", Deploy="/bin/true",
                                                        Rollback="/bin/true", BackupPaths=None)))
    done = check(daemon)
    assert done.returncode == 0, done.stdout + done.stderr


def test_daemon_does_not_start_on_errors(daemon):
    daemon.configure("a", "[Environment production]\nNonsense=1\n")
    daemon.start(wait=False)
    assert daemon.process.popen.wait(10) == 78
    assert "Nonsense" in daemon.log()


def test_second_daemon_says_who_has_the_state(daemon, site, sample):
    daemon.configure("dhash", service(site.root, environment("production", sample.url), phases(*LONG)))
    daemon.start()
    second = subprocess.run([DHASHD, "-c", daemon.conf, "--state", daemon.state, "--socket",
                             daemon.folder / "second.sock"], capture_output=True, text=True, timeout=10,
                            check=False)
    assert second.returncode not in (0, 78) and str(daemon.state) in second.stdout + second.stderr
    assert daemon.answers()


def test_reload_is_all_or_nothing(daemon, site, sample):
    one = environment("production", sample.url)
    daemon.configure("dhash", service(site.root, one, phases(*LONG)))
    daemon.start()
    deployment = daemon.deploy("v1.0.0")
    daemon.wait_state(deployment, "watching")

    daemon.configure("dhash", service(site.root, one, section("Rule health", {"Failurs": "9"})))
    daemon.reload()
    wait_for(lambda: "Failurs" in daemon.log(), "the error is in the journal")
    checked = daemon.get("/v1/config/check")
    assert not checked["ok"] and "Failurs" in checked["errors"][0]["text"]
    assert daemon.dhash("config", "check").returncode == 1
    assert [e["environment"] for e in daemon.get("/v1/status")["environments"]] == ["production"]

    two = environment("staging", sample.url)
    daemon.configure("dhash", service(site.root, one, two, phases(("critical", "20s", "50ms"))))
    daemon.reload()
    wait_for(lambda: len(daemon.get("/v1/status")["environments"]) == 2, "the new environment is there")
    # What runs keeps what it began with.
    left = daemon.environment()["phase"]["left_ms"]
    assert daemon.deployment()["state"] == "watching" and left > 20000
    assert daemon.dhash("config", "check").returncode == 0
