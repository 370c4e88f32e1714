# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at every state of the table, 200 times and more, while six services go through their lives.

Whenever the daemon is up, every service without a live deployment gets another one; after a random
time the daemon is killed and started again.  In the end no deployment may have been lost, every one
has come to the end that its service's plan foresees, nothing was decided twice, and no hook was
started twice for the same deployment.  DHASH_KILL_SEED repeats a run's timing.
"""

import collections
import os
import random
import tarfile
import time

import harness
from harness import ENDED, Service, Site, environment, phases, service, wait_for

KILLS = 200
SHORT, LONG = (("critical", "400ms", "50ms"),), (("critical", "20s", "50ms"),)
KEYS = {"Settle": "50ms", "Recheck": "50ms", "VerifyInterval": "50ms", "VerifyTimeout": "10s",
        "PostWatch": "200ms", "PostInterval": "50ms", "RecoveryInterval": "50ms", "IdleInterval": "1s",
        "MinCoverage": "0%"}
STATES = {"gates", "backup", "deploying", "settling", "watching", "rolling-back.saving",
          "rolling-back.choosing", "rolling-back.running", "verifying", "succeeded", "rolled-back",
          "rollback-failed"}


class Plan:
    """A service, and how each of its deployments has to end."""

    ends, watch, health, decision = {"rolled-back"}, LONG, "down", "roll-back"

    def __init__(self, folder, started):
        self.name = type(self).__name__.lower()
        root = folder / self.name
        (root / "service").mkdir(parents=True)
        self.sampled = Service(root / "service")
        started.append(self.sampled)
        self.site = Site(root / "site", self.sampled.url)
        (self.site.root / "app/ballast").write_bytes(random.randbytes(500_000))
        self.count = 0

    def configure(self, daemon, **more):
        daemon.configure(self.name, service(self.site.root, environment(
            "production", self.sampled.url, **{**KEYS, **more}), phases(*self.watch)))

    def next_tag(self):
        self.count += 1
        tag = f"v{self.count}"
        self.site.behave(tag, health=self.health)
        return tag

    def while_watching(self, daemon, deployment):
        """Called whenever its deployment is seen watching."""

    def check(self, found):
        """One deployment, in the end."""
        say = (self.name, found)
        assert found["state"] in self.ends, say
        decided = [d["kind"] for d in found["decisions"] if d["kind"] in ("roll-back", "promote")]
        assert decided == ([self.decision] if self.decision else []), say
        assert found["auto_rollbacks"] == (1 if found["rollback_auto"] else 0), say
        for step in ("deploy", "rollback"):
            assert len(self.site.calls(step, "start", found["id"])) <= 1, say
        assert len(self.site.calls("deploy", "start", found["id"])) == 1, say
        if self.decision == "roll-back":
            assert found["rollbacks"] == 1, say
            self.check_rollback(found, say)

    def check_rollback(self, found, say):
        assert len(self.site.calls("rollback", "start", found["id"])) == 1, say


class Good(Plan):
    ends, watch, health, decision = {"succeeded"}, SHORT, "up", "promote"


class Sick(Plan):
    """Three failed health rounds."""


class Refusing(Plan):
    """The deploy hook fails."""

    health = "up"

    def __init__(self, *args):
        super().__init__(*args)
        self.site.fail("deploy")


class Stuck(Plan):
    """So does the rollback hook."""

    ends = {"rollback-failed"}

    def __init__(self, *args):
        super().__init__(*args)
        self.site.fail("rollback")


class Manual(Plan):
    """An operator rolls back what is healthy."""

    health = "up"

    def while_watching(self, daemon, deployment):
        status, answer = daemon.api("POST", "/v1/rollbacks", {"service": self.name, "environment": "production",
                                                              "reason": "by hand"})
        assert status in (202, 409), (status, answer)


class Engine(Plan):
    """Release folders; the first release is good, the later ones are taken back to it."""

    def configure(self, daemon, **more):
        super().configure(daemon, Deploy=None, Rollback=None, BackupPaths=None,
                          Artifact=f"{self.site.root}/app-%t.tar.gz",
                          Restart="scripts/deploy_dhash.sh --env %e --tag %t --id %i")
        first = self.site.root / "releases/v0"
        first.mkdir(parents=True)
        (self.site.root / "current").symlink_to("releases/v0")

    def next_tag(self):
        tag = super().next_tag()
        if tag == "v1":
            self.site.behave(tag)
        with tarfile.open(self.site.root / f"app-{tag}.tar.gz", "w:gz") as tar:
            tar.add(self.site.root / "app/data", "data")
        return tag

    def while_watching(self, daemon, deployment):
        pass

    def check(self, found):
        say = (self.name, found)
        # One service process: the restart hook of the deploy, and that of the rollback.
        starts = self.site.calls("deploy", "start", found["id"])
        tags = [word for line in starts for word in line.split() if word.startswith("tag=")]
        if found["tag"] == "v1":
            assert found["state"] == "succeeded" and tags == ["tag=v1"], say
        else:
            assert found["state"] == "rolled-back" and tags == [f"tag={found['tag']}", "tag=v1"], (say, starts)
            assert len([d for d in found["decisions"] if d["kind"] == "roll-back"]) == 1, say
            assert found["auto_rollbacks"] == found["rollbacks"] == 1, say


class Killer:
    def __init__(self, daemon, plans, chance):
        self.daemon, self.plans, self.chance = daemon, {p.name: p for p in plans}, chance
        self.kills, self.seen = 0, collections.Counter()
        self.acknowledged = set()

    def start(self):
        self.daemon.start(wait=False)
        if self.chance.random() < 0.15:
            return  # killed while it starts
        wait_for(self.daemon.answers, "dhashd answers", interval=0.002)
        self.feed()

    def feed(self, forget=0.1):
        """Another deployment for everyone who has none; now and then without waiting for the answer."""
        for env in self.daemon.get("/v1/status")["environments"]:
            plan, live = self.plans[env["service"]], env["deployment"]
            if live and live["state"] == "watching":
                plan.while_watching(self.daemon, live)
            if live and live["state"] not in ENDED:
                continue
            body = {"service": plan.name, "environment": "production", "tag": plan.next_tag()}
            if self.chance.random() < forget:
                harness.UnixConnection(self.daemon.socket, 5).request(
                    "POST", "/v1/deployments", harness.json.dumps(body), {"Content-Type": "application/json"})
                return
            status, answer = self.daemon.api("POST", "/v1/deployments", body)
            assert status == 202, (status, answer)
            self.acknowledged.add(answer["id"])

    def kill(self):
        self.daemon.kill()
        self.kills += 1
        base = self.daemon.database()
        for (state,) in base.execute("SELECT state FROM deployments d WHERE created_at = "
                                     "(SELECT max(created_at) FROM deployments WHERE service = d.service)"):
            self.seen[state] += 1
        base.close()

    def kill_in(self, state, timeout=20):
        """Kills as soon as the journal says that something has entered the state."""
        self.daemon.start(wait=False)
        wait_for(self.daemon.answers, "dhashd answers", interval=0.002)
        with open(self.daemon.log_path, encoding="utf-8", errors="replace") as journal:
            journal.seek(0, os.SEEK_END)
            deadline = time.monotonic() + timeout * harness.PATIENCE
            next_feed = 0.0
            while state not in journal.read():
                assert time.monotonic() < deadline, f"nothing enters {state}: {self.seen}"
                if time.monotonic() > next_feed:
                    self.feed(forget=0)
                    next_feed = time.monotonic() + 0.2
                time.sleep(0.0005)
        self.kill()

    def finish(self):
        self.daemon.start()

        def all_ended():
            envs = self.daemon.get("/v1/status")["environments"]
            for env in envs:
                live = env["deployment"]
                if live["state"] == "watching":
                    self.plans[env["service"]].while_watching(self.daemon, live)
            return all(e["deployment"]["state"] in ENDED for e in envs)
        wait_for(all_ended, "every deployment comes to its end", timeout=60, interval=0.1)


def test_killed_at_every_state(daemon, tmp_path, started):
    seed = int(os.environ.get("DHASH_KILL_SEED", time.time_ns() % 1_000_000))
    print(f"DHASH_KILL_SEED={seed}")
    plans = [kind(tmp_path, started) for kind in (Good, Sick, Refusing, Stuck, Manual, Engine)]
    for plan in plans:
        plan.configure(daemon)
    killer = Killer(daemon, plans, random.Random(seed))
    while killer.kills < KILLS:
        killer.start()
        # No synchronisation: this is the random instant of the fault.
        time.sleep(killer.chance.choice((0.02, 0.1, 0.1, 0.3)) * killer.chance.random())
        killer.kill()
    for state in sorted(STATES):
        while not killer.seen[state]:
            killer.kill_in(state)
    killer.finish()

    found = [d for plan in plans for d in
             daemon.get(f"/v1/deployments?service={plan.name}&environment=production&limit=1000")["deployments"]]
    assert killer.acknowledged <= {d["id"] for d in found}, "an acknowledged deployment is lost"
    assert len(found) > 30
    for deployment in found:
        next(p for p in plans if p.name == deployment["service"]).check(daemon.show(deployment["id"]))
    print(f"{killer.kills} kills, {len(found)} deployments, at: {dict(killer.seen)}")
