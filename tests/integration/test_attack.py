# SPDX-License-Identifier: Apache-2.0
"""Clients that mean no good, against the whole daemon: it answers others all the while, and its
memory stays what it was.  The limits one by one are tested in tests/daemon/ctl."""

import contextlib
import json
import re
import socket
import time

from harness import PATIENCE, ROOT, environment, phases, service

ASK = b"GET /v1/version HTTP/1.1\r\n\r\n"


def start(daemon, site, url):
    daemon.configure("dhash", service(site.root, environment("production", url), phases()))
    daemon.start()


def dial(daemon):
    s = socket.socket(socket.AF_UNIX)
    s.connect(str(daemon.socket))  # without a timeout: it waits for a place in the backlog
    s.settimeout(10 * PATIENCE)
    return s


def rss(daemon):
    status = open(f"/proc/{daemon.process.pid}/status").read()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1])


def pour(s, data, limit):
    """Sends until the other end has had enough."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < limit:
            sent += s.send(data)
    return sent


def leave_before_the_answers(daemon):
    for _ in range(100):
        with dial(daemon) as s:
            s.sendall(ASK * 50)


def endless_headers(daemon):
    with dial(daemon) as s:
        pour(s, b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 8000 + b"\r\n", 100 << 20)


def endless_body(daemon):
    with dial(daemon) as s:
        s.sendall(b"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: 104857600\r\n\r\n")
        pour(s, b"x" * 65536, 100 << 20)


def nested_json(daemon):
    body = b'{"environment":' + b"[" * 30000 + b"]" * 30000 + b"}"
    with dial(daemon) as s:
        s.sendall(b"POST /v1/rollbacks HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert b"nested too deeply" in s.recv(65536)


def ten_thousand_connects(daemon):
    for _ in range(10000):
        dial(daemon).close()


def bound_to_a_path(daemon):
    for length in (20, 40, 107):
        folder = str(daemon.folder / "bound")
        path = (folder + "p" * length)[:length] if len(folder) < length else "\0" + "p" * (length - 1)
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.connect(str(daemon.socket))
            s.sendall(ASK)
            assert b" 200 " in s.recv(4096)


def test_attacks(daemon, site, sample):
    start(daemon, site, sample.url)
    leave_before_the_answers(daemon)  # warm: what is kept for good is there now
    before = rss(daemon)
    with contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(dial(daemon)) for _ in range(20)]
        for s in stalled:
            s.sendall(b"GET /v1/events?follow=1 HTTP/1.1\r\n\r\n")
        for attack in (leave_before_the_answers, endless_headers, endless_body, nested_json,
                       ten_thousand_connects, bound_to_a_path):
            attack(daemon)
            began = time.monotonic()
            done = daemon.dhash("status", "--env", "production")
            assert done.returncode == 3, (attack.__name__, done.stdout + done.stderr)
            assert time.monotonic() - began < 2 * PATIENCE, attack.__name__
            assert rss(daemon) < before + 4096, attack.__name__
    assert daemon.environment()["verdict"] == "healthy"  # the checks went on
    daemon.stop()


def documented(page, key):
    return re.search(rf"\b{key}\b", page) is not None


def keys(value):
    """Every key of a document, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_protocol_page_has_every_key(daemon, site, sample):
    """What the daemon really answers, against dhash-protocol(7)."""
    page = (ROOT / "man/dhash-protocol.7").read_text()
    start(daemon, site, sample.url)
    first = daemon.deploy("v1.0.0", lead="@ann")
    daemon.wait_state(first, "watching")
    answers = [daemon.get("/v1/status"), daemon.get("/v1/explain?environment=production")]
    daemon.wait_state(first, "succeeded")
    daemon.get("/v1/status")
    status, dry = daemon.api("POST", "/v1/deployments",
                             {"environment": "production", "tag": "v2", "dry_run": True})
    assert status == 200
    answers += [dry, daemon.show(first), daemon.get("/v1/deployments"), daemon.get("/v1/backups"),
                daemon.api("POST", "/v1/backups/verify")[1], daemon.get("/v1/config/check"),
                daemon.get("/v1/version"), daemon.get(f"/v1/explain?deployment={first}")]
    with dial(daemon) as s:
        s.sendall(b"GET /v1/events?limit=1 HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    answers.append(json.loads(answer.split(b"\r\n\r\n", 1)[1]))
    missing = {key for key in keys(answers) if not documented(page, key)}
    assert not missing
