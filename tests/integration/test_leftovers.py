# SPDX-License-Identifier: Apache-2.0
"""What a killed daemon leaves undone beside its database is put right at the next start."""

import os

from harness import environment, phases, service, wait_for


def start(daemon, site, url, **keys):
    daemon.configure("dhash", service(site.root, environment("production", url, **{"MinCoverage": "0%", **keys}),
                                      phases(("critical", "3s", "100ms"))))
    daemon.start()


def make(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left over\n")
    return paths


def test_files_under_temporary_names_go_and_all_others_stay(daemon, site, sample):
    site.hold("deploy")
    start(daemon, site, sample.url)
    name = daemon.deploy("v1.0.0")
    wait_for(lambda: site.hook_running("deploy"), "the deploy hook runs")
    daemon.kill()
    session, backups = daemon.session(name), daemon.state / "backups"
    hooks = session / "hooks"
    gone = make(session / "incident-report.md.tmp-aBc123", hooks / "previous-release.tmp-aBc123",
                hooks / f"{name}.deploy.request.tmp-aBc123", hooks / f"{name}.deploy.started.tmp-4194304",
                backups / ".dhash-production-20240101-120000.zip.partial",
                backups / ".emergency-dhash-production-20240101-120000-2.zip.partial",
                backups / "dhash-production-20240101-120000.zip.sha256.tmp-aBc123")
    stay = make(session / "notes.md.tmp-aBc123", session / "incident-report.md.tmp-aBc1234",
                hooks / f"{name}.deploy.started.tmp-{os.getpid()}",
                backups / ".other-production-20240101-120000.zip.partial",
                backups / "dhash-production-20240101-120000.zip.partial")
    reserved = hooks / f"{name}.deploy.result.reserved"
    assert reserved.exists()
    daemon.start()
    wait_for(lambda: not any(p.exists() for p in gone), f"all of {gone} are gone")
    assert all(p.exists() for p in stay) and reserved.exists(), "something of somebody else's is gone"
    site.release("deploy")
    daemon.wait_state(name, "succeeded")
    assert not reserved.exists()


def test_room_for_the_result_of_a_runner_that_died_is_given_back(daemon, site, sample):
    start(daemon, site, sample.url)
    name = daemon.deploy("v1.0.0")
    daemon.wait_state(name, "watching")
    daemon.kill()
    reserved, = make(daemon.session(name) / "hooks" / f"{name}.deploy.result.reserved")
    daemon.start()
    wait_for(lambda: not reserved.exists(), "the reserved room is gone")
    daemon.wait_state(name, "succeeded")


def test_folder_of_a_request_that_was_never_committed_goes(daemon, site, sample):
    start(daemon, site, sample.url)
    first = daemon.deploy("v1.0.0")
    daemon.wait_state(first, "succeeded")
    second = daemon.deploy("v1.0.1")
    daemon.wait_state(second, "watching")
    daemon.kill()
    # A deployment's folder stays, even if somebody has emptied it.
    for path in sorted(daemon.session(first).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    empty, used = daemon.session("deploy-20990101-120000"), daemon.session("deploy-20990101-120000-2")
    (empty / "hooks").mkdir(parents=True)
    (used / "hooks").mkdir(parents=True)
    make(used / "note")
    daemon.start()
    wait_for(lambda: not empty.exists(), "the empty folder is gone")
    assert (used / "hooks").is_dir() and daemon.session(first).is_dir()
    daemon.wait_state(second, "succeeded")
    assert (used / "hooks").is_dir() and daemon.session(first).is_dir() and not empty.exists()


def test_session_log_has_its_head_once(daemon, site, sample):
    site.hold("deploy")
    start(daemon, site, sample.url)
    name = daemon.deploy("v1.0.0")
    wait_for(lambda: site.hook_running("deploy"), "the deploy hook runs")
    log = daemon.session(name) / "session.log"
    daemon.kill()
    assert log.read_text().startswith(f"Deployment Session: {name}\n")
    log.unlink()
    daemon.start()
    daemon.stop()
    daemon.start()
    site.release("deploy")
    daemon.wait_state(name, "succeeded")
    daemon.stop()
    assert log.read_text().startswith(f"Deployment Session: {name}\n")
    assert log.read_text().count("Deployment Session:") == 1


def test_incident_report_that_was_not_written_is(daemon, site, sample):
    site.behave("v1.0.0", health="down")
    start(daemon, site, sample.url)
    name = daemon.deploy("v1.0.0")
    daemon.wait_state(name, "rolled-back")
    report = daemon.session(name) / "incident-report.md"
    wait_for(report.exists, "the incident report is written")
    daemon.kill()
    written = report.read_text()
    report.unlink()
    daemon.start()
    wait_for(report.exists, "the incident report is written again")
    assert report.read_text().splitlines()[0] == written.splitlines()[0]
    # What somebody has added to it is not written over …
    daemon.kill()
    report.write_text("with our own words\n")
    daemon.start()
    daemon.stop()
    assert report.read_text() == "with our own words\n"
    # … but one from before the end does not tell the end.
    os.utime(report, (1, 1))
    daemon.start()
    wait_for(lambda: report.read_text() != "with our own words\n", "the incident report tells the end")


def test_link_that_was_to_become_current_goes(daemon, site, sample):
    start(daemon, site, sample.url, Deploy=None, Rollback=None, BackupPaths=None,
          Artifact=f"{site.root}/app-%t.tar.gz", Restart="scripts/deploy_dhash.sh --env %e --tag %t --id %i")
    os.system(f"tar -C {site.root}/app -czf {site.root}/app-v1.0.0.tar.gz .")
    daemon.wait_state(daemon.deploy("v1.0.0"), "watching")
    daemon.kill()
    ours, file, other = (site.root / name for name in (".current-0123abcd", ".current-0123abce", ".current-0123abcf"))
    ours.symlink_to("releases/v1.0.0")
    other.symlink_to("/elsewhere")
    make(file)
    daemon.start()
    wait_for(lambda: not ours.is_symlink(), "the link is gone")
    assert file.exists() and other.is_symlink()
