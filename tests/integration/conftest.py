# SPDX-License-Identifier: Apache-2.0
import os

import pytest

import harness


@pytest.fixture
def started():
    """Whatever is put here is ended after the test, the last first."""
    things = []
    yield things
    for thing in reversed(things):
        thing.end()


@pytest.fixture
def sample(tmp_path, started):
    folder = tmp_path / "service"
    folder.mkdir()
    started.append(harness.Service(folder))
    return started[-1]


@pytest.fixture
def site(tmp_path, sample):
    return harness.Site(tmp_path / "site", sample.url)


@pytest.fixture
def load(tmp_path, sample, started):
    started.append(harness.Load(tmp_path, sample.url))
    return started[-1]


@pytest.fixture
def daemon(tmp_path, started):
    """Not yet started: the test configures it first."""
    started.append(harness.Daemon(tmp_path / "dhashd"))
    return started[-1]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    found = getattr(item, "funcargs", {}).get("daemon")
    if report.when == "call" and report.failed and found and found.log_path.exists():
        report.sections.append(("journal of dhashd", found.log()[-6000:]))


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
