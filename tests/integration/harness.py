# SPDX-License-Identifier: Apache-2.0
"""What the integration tests are made of: the real daemon, the real client, real services.

Every process is started by its own Popen and ended by its pid; everything listens on loopback or on
a socket in the test's own folder.  Waiting is polling with a deadline, never a fixed sleep.
"""

import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("DHASH_BUILD", ROOT / "build")).resolve()
DHASHD, DHASH = BUILD / "dhashd", BUILD / "dhash"
SAMPLED, LOADGEN = BUILD / "tests/lib/sampled", BUILD / "tests/lib/loadgen"
# How much slower than a plain build this one may be (sanitizers, a loaded machine).
PATIENCE = float(os.environ.get("DHASH_TEST_PATIENCE", "1"))

ENDED = {"succeeded", "unverified", "rejected", "failed", "aborted", "superseded", "rolled-back",
         "rollback-failed"}


def wait_for(probe, what, timeout=10.0, interval=0.02):
    """Calls probe() until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout * PATIENCE:g} s: {what}")
        time.sleep(interval)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fetch(url, data=None, timeout=5):
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout) as answer:
        return answer.read().decode()


class Process:
    """A child with its output in a file."""

    def __init__(self, argv, log, **popen):
        self.log_path = pathlib.Path(log)
        with open(self.log_path, "ab") as out:
            self.popen = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=out, **popen)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace")

    def end(self, how=signal.SIGTERM, timeout=10):
        if self.running():
            self.popen.send_signal(how)
        try:
            return self.popen.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)
            raise AssertionError(f"{self.popen.args[0]} ignores signal {how}:\n{self.log()[-4000:]}")


class Service(Process):
    """sampled, the sample service; its behaviour changes by control()."""

    def __init__(self, folder, port=0, tag="v0", **options):
        port_file = pathlib.Path(folder) / "port"
        port_file.unlink(missing_ok=True)
        argv = [SAMPLED, "--port", port, "--tag", tag, "--port-file", port_file, "--control"]
        for key, value in options.items():
            argv += ["--" + key.replace("_", "-"), value]
        super().__init__(argv, pathlib.Path(folder) / "sampled.log")
        wait_for(port_file.exists, "sampled says its port")
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}"

    def control(self, **behaviour):
        query = "&".join(f"{k}={v}" for k, v in behaviour.items())
        assert fetch(f"{self.url}/control?{query}", data=b"") == "ok\n"

    def version(self):
        return fetch(f"{self.url}/version").strip()


class Load(Process):
    def __init__(self, folder, url, rate=100):
        super().__init__([LOADGEN, "--url", url + "/", "--rate", rate, "--duration", "300s"],
                         pathlib.Path(folder) / "load.log")


class Nginx(Process):
    """Debian's nginx with a configuration of its own, in front of a backend."""

    def __init__(self, folder, backend_port):
        folder = pathlib.Path(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        temp = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in
                       ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        conf = folder / "nginx.conf"
        conf.write_text(f"""
            daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
            events {{ }}
            http {{
                access_log off; {temp}
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        proxy_pass http://127.0.0.1:{backend_port};
                        proxy_http_version 1.1; proxy_set_header Connection ""; proxy_connect_timeout 2s;
                    }}
                }}
            }}""")
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        super().__init__([program, "-p", folder, "-e", "stderr", "-c", conf], folder / "nginx.log")
        wait_for(self.listening, "nginx listens")

    def listening(self):
        assert self.running(), self.log()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """dhashd with configuration, state and socket in one folder; may be started many times."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.conf, self.state = self.folder / "etc", self.folder / "state"
        self.socket, self.log_path = self.folder / "dhashd.sock", self.folder / "dhashd.log"
        (self.conf / "services.d").mkdir(parents=True)
        self.state.mkdir()
        self.process = None

    def configure(self, service, text):
        (self.conf / "services.d" / f"{service}.conf").write_text(text)

    def start(self, wait=True):
        self.process = Process([DHASHD, "-c", self.conf, "--state", self.state, "--socket",
                                self.socket], self.log_path)
        if wait:
            wait_for(self.answers, "dhashd answers", interval=0.005)

    def answers(self):
        assert self.process.running(), f"dhashd ended:\n{self.log()[-4000:]}"
        try:
            return self.api("GET", "/v1/version")[1]["pid"] == self.process.pid
        except OSError:
            return False

    def stop(self):
        assert self.process.end() == 0, self.log()[-4000:]

    def kill(self):
        self.process.popen.kill()
        self.process.popen.wait(10)

    def end(self):
        if self.process and self.process.running():
            self.process.end()

    def reload(self):
        os.kill(self.process.pid, signal.SIGHUP)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def api(self, method, path, body=None, timeout=10):
        """Returns (status, JSON)."""
        connection = UnixConnection(self.socket, timeout * PATIENCE)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except http.client.HTTPException as e:
            raise OSError(f"{method} {path}: {e!r}") from e
        finally:
            connection.close()

    def get(self, path):
        status, answer = self.api("GET", path)
        assert status == 200, (path, status, answer)
        return answer

    def dhash(self, *args, timeout=60, **popen):
        """Runs the client; stdin is no terminal."""
        return subprocess.run([DHASH, "--socket", self.socket, *map(str, args)], text=True,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=timeout * PATIENCE, **popen)

    def dhash_json(self, *args):
        done = self.dhash(*args, "--json")
        assert done.stdout, (args, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def environment(self, name="production"):
        return next(e for e in self.get("/v1/status")["environments"] if e["environment"] == name)

    def deployment(self, name="production"):
        return self.environment(name)["deployment"]

    def show(self, deployment_id):
        return self.get(f"/v1/deployments/{deployment_id}")

    def deploy(self, tag, environment="production", **more):
        """Asks for a deployment, without waiting for its end; returns its id."""
        status, answer = self.api("POST", "/v1/deployments",
                                  {"environment": environment, "tag": tag, **more})
        assert status == 202, (status, answer)
        return answer["id"]

    def wait_state(self, deployment_id, *states, timeout=20):
        def probe():
            found = self.show(deployment_id)
            assert found["state"] in states or found["state"] not in ENDED, found
            return found if found["state"] in states else None
        return wait_for(probe, f"{deployment_id} is {' or '.join(states)}", timeout)

    def session(self, deployment_id):
        return self.state / "sessions" / deployment_id

    def database(self):
        """A connection to a copy of the database: the daemon's own is not touched."""
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for end in ("", "-wal"):
            source = self.state / f"dhashd.db{end}"
            if source.exists():
                shutil.copy(source, copy / f"dhashd.db{end}")
            else:
                (copy / f"dhashd.db{end}").unlink(missing_ok=True)
        (copy / "dhashd.db-shm").unlink(missing_ok=True)
        return sqlite3.connect(copy / "dhashd.db")


class Site:
    """One guarded installation in a folder: an application with a release file, and the guide's
    two hook scripts, which tell the sample service how the release behaves.

    behave(tag, errors=…, health=…) says how a release behaves once it is in place; hold(step) makes
    the hook of that step wait until release(step); fail(step) makes it exit with status 3.
    calls() lists what the hooks did: "deploy start …", "deploy end …".
    """

    SCRIPT = """#!/bin/bash
step={step} root={root} url={url}
env= tag= backup= id=
while [ $# -gt 0 ]; do
    case $1 in
        --env) env=$2; shift 2 ;;
        --tag) tag=$2; shift 2 ;;
        --backup) backup=$2; shift 2 ;;
        --id) id=$2; shift 2 ;;
        --force) shift ;;
        *) echo "unknown argument $1"; exit 64 ;;
    esac
done
echo "$step start $id env=$env tag=$tag backup=$backup" >>"$root/calls"
echo "this is the $step hook of $env"
touch "$root/running.$step"
while [ -e "$root/hold.$step" ]; do sleep 0.02; done
rm -f "$root/running.$step"
if [ -e "$root/fail.$step" ]; then
    echo "$step end $id status=3" >>"$root/calls"
    exit 3
fi
if [ -n "$backup" ]; then
    unzip -o -q "$backup" -d "$root" || exit 4
    tag=$(cat "$root/app/release")
else
    echo "$tag" >"$root/app/release"
fi
[ -e "$root/dead" ] || curl -fsS -X POST "$url/control?tag=$tag&$(cat "$root/behaviour/$tag" || cat "$root/behaviour/default")" || exit 5
echo "$step end $id status=0" >>"$root/calls"
"""

    def __init__(self, folder, url, release="v0"):
        self.root = pathlib.Path(folder)
        (self.root / "app").mkdir(parents=True)
        (self.root / "app/release").write_text(release + "\n")
        (self.root / "app/data").write_text("data of the application\n")
        (self.root / "behaviour").mkdir()
        (self.root / "scripts").mkdir()
        (self.root / "calls").touch()
        for step in ("deploy", "rollback"):
            script = self.root / f"scripts/{step}_dhash.sh"
            script.write_text(self.SCRIPT.format(step=step, root=self.root, url=url))
            script.chmod(0o755)
        self.behave("default")

    def behave(self, tag, errors=0, latency=0, health="up"):
        (self.root / "behaviour" / tag).write_text(f"errors={errors}&latency={latency}&health={health}")

    def hold(self, step):
        (self.root / f"hold.{step}").touch()

    def release(self, step):
        (self.root / f"hold.{step}").unlink(missing_ok=True)

    def fail(self, step, on=True):
        if on:
            (self.root / f"fail.{step}").touch()
        else:
            (self.root / f"fail.{step}").unlink(missing_ok=True)

    def hook_running(self, step):
        return (self.root / f"running.{step}").exists()

    def in_place(self):
        return (self.root / "app/release").read_text().strip()

    def calls(self, *words):
        """Lines of what the hooks did that hold all of the words."""
        lines = (self.root / "calls").read_text().splitlines()
        return [line for line in lines if all(w in line.split() for w in words)]


# Keys that make an environment quick; a test overrides by name, None leaves a key out.
QUICK = {
    "Settle": "100ms", "Recheck": "100ms", "Timeout": "1s", "IdleInterval": "200ms",
    "VerifyInterval": "100ms", "VerifyTimeout": "5s", "PostWatch": "1s", "PostInterval": "100ms",
    "RecoveryInterval": "100ms", "BackupPaths": "app",
    "Deploy": "scripts/deploy_dhash.sh --env %e --tag %t --id %i",
    "Rollback": "scripts/rollback_dhash.sh --backup %b --env %e --id %i --force",
}
PHASES = (("critical", "500ms", "100ms"), ("stability", "1s", "100ms"), ("extended", "1500ms", "100ms"))
METRICS = """
[Metrics]
Requests=http_requests_total
Errors=http_requests_total{code=~"5.."}
Latency=http_request_duration_seconds
"""


def section(name, keys):
    return f"[{name}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items() if v is not None) + "\n"


def environment(name, url, **keys):
    return section(f"Environment {name}", {"HealthURL": f"{url}/health", **QUICK, **keys})


def phases(*rows):
    """Exactly these phases: Until=0 takes those of the guide away that are not named."""
    rows = rows or PHASES
    gone = [n for n, _, _ in PHASES if n not in [row[0] for row in rows]]
    return ("".join(section(f"Phase {n}", {"Until": u, "Interval": i}) for n, u, i in rows) +
            "".join(section(f"Phase {n}", {"Until": "0"}) for n in gone))


def service(folder, *parts, description="service of a test"):
    """The text of a services.d file."""
    return section("Service", {"Description": description, "WorkingDirectory": folder}) + "".join(parts)
