# SPDX-License-Identifier: Apache-2.0
"""The built-in engine: artifacts unpacked to releases/, `current` renamed, Restart= hook."""

import os
import tarfile

from harness import environment, phases, service


def start(daemon, site, url, tags=("v1.0.0", "v1.1.0"), watch=(("critical", "1s", "100ms"),)):
    """The restart hook is the site's deploy script: it tells the service how the release behaves."""
    artifacts = site.root / "artifacts"
    artifacts.mkdir()
    for tag in tags:
        with tarfile.open(artifacts / f"app-{tag}.tar.gz", "w:gz") as tar:
            info = tarfile.TarInfo("bin/app")
            info.mode, info.size = 0o755, 0
            tar.addfile(info)
    daemon.configure("app", service(site.root, environment(
        "production", url, Deploy=None, Rollback=None, BackupPaths=None,
        Artifact=f"{artifacts}/app-%t.tar.gz", Restart="scripts/deploy_dhash.sh --env %e --tag %t --id %i"),
        phases(*watch)))
    daemon.start()


def current(site):
    return os.readlink(site.root / "current")


def test_deploy_and_roll_back_by_release_folder(daemon, site, sample):
    start(daemon, site, sample.url)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert current(site).endswith("v1.0.0") and sample.version() == "v1.0.0"
    assert (site.root / "current/bin/app").stat().st_mode & 0o111

    site.behave("v1.1.0", health="down")
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v1.1.0")
    assert done.returncode == 5, done.stdout + done.stderr
    assert current(site).endswith("v1.0.0") and sample.version() == "v1.0.0"
    assert daemon.environment()["release"] == "v1.0.0"
    # The bad release stays for whoever looks into it; nothing half unpacked is left.
    assert sorted(p.name for p in (site.root / "releases").iterdir() if p.is_dir()) == ["v1.0.0", "v1.1.0"]


def test_rollback_by_hand_to_a_tag(daemon, site, sample):
    start(daemon, site, sample.url, tags=("v1", "v2", "v3"))
    for tag in ("v1", "v2", "v3"):
        assert daemon.dhash("deploy", "--env", "production", "--tag", tag).returncode == 0
    done = daemon.dhash("rollback", "--env", "production", "--to", "v1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert current(site).endswith("v1") and sample.version() == "v1"


def test_release_that_is_not_complete_is_no_way_back(daemon, site, sample):
    start(daemon, site, sample.url, tags=("v1", "v2"), watch=(("critical", "5s", "100ms"),))
    assert daemon.dhash("deploy", "--env", "production", "--tag", "v1").returncode == 0
    deployment = daemon.deploy("v2")
    daemon.wait_state(deployment, "watching")
    (site.root / "releases/v1/.dhash-release").unlink()
    done = daemon.dhash("rollback", "--env", "production", "--yes")
    assert done.returncode == 1 and "is not complete" in done.stdout + done.stderr
    assert current(site).endswith("v2")
    assert not daemon.show(deployment)["target"]


def test_missing_artifact_changes_nothing(daemon, site, sample):
    start(daemon, site, sample.url)
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v9")
    assert done.returncode == 1 and "app-v9.tar.gz" in done.stdout + done.stderr
    assert not (site.root / "current").exists() and not site.calls()
    assert daemon.deployment()["state"] in ("rejected", "failed")


def test_artifact_that_climbs_out_is_refused(daemon, site, sample):
    start(daemon, site, sample.url)
    assert daemon.dhash("deploy", "--env", "production", "--tag", "v1.0.0").returncode == 0
    with tarfile.open(site.root / "artifacts/app-v6.6.6.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped"))
    done = daemon.dhash("deploy", "--env", "production", "--tag", "v6.6.6")
    assert done.returncode in (1, 5), done.stdout + done.stderr
    assert current(site).endswith("v1.0.0") and sample.version() == "v1.0.0"
    assert not list(site.root.parent.rglob("escaped"))
