# SPDX-License-Identifier: Apache-2.0
"""The journal's catalog, as journalctl compiles it: whole, and true in what it tells people to do."""

import re
import shutil
import subprocess

import pytest

from harness import DHASH, ROOT

CATALOG = ROOT / "systemd/dhash.catalog"
LOG_C = (ROOT / "common/log.c").read_text()
# generic is the one kind without a MESSAGE_ID.
KINDS = {name: ident for name, ident in
         re.findall(r'\[LOG_KIND_\w+\] =\s+\{"([a-z-]+)",\s*"([0-9a-f]{32})"\}', LOG_C)
         if name != "generic"}
FIELDS = set(re.findall(r'field\(r, "(DHASH_[A-Z_]+)"', LOG_C))


def journalctl(root, *arguments):
    done = subprocess.run(["journalctl", f"--root={root}", *arguments], text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """What journalctl has compiled: id -> (headers, paragraphs)."""
    root = tmp_path_factory.mktemp("catalog")
    folder = root / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    shutil.copy(CATALOG, folder)
    journalctl(root, "--update-catalog")
    found = {}
    for block in re.split(r"^(?=-- [0-9a-f]{32}$)", journalctl(root, "--dump-catalog"), flags=re.M):
        if not block.strip():
            continue
        ident, _, rest = block[3:].partition("\n")
        head, _, body = rest.partition("\n\n")
        assert ident not in found, ident
        found[ident] = (dict(line.split(": ", 1) for line in head.splitlines()),
                        [p for p in body.split("\n\n") if p.strip()])
    return found


@pytest.fixture(params=sorted(KINDS))
def entry(request, entries):
    return entries[KINDS[request.param]]


def test_each_kind_has_one_entry_and_each_entry_a_kind(entries):
    assert len(KINDS) == len(re.findall(r"^\t\[LOG_KIND_", LOG_C, re.M)) - 1 > 0
    assert set(entries) == set(KINDS.values())
    # Compiling would keep one of two entries without a word; and the names above them are right.
    written = re.findall(r"^# ([a-z-]+)\n-- ([0-9a-f]{32})$", CATALOG.read_text(), re.M)
    assert sorted(written) == sorted(KINDS.items())
    assert len(re.findall(r"^-- ", CATALOG.read_text(), re.M)) == len(KINDS)


def test_it_says_what_it_is_and_what_to_do(entry):
    headers, paragraphs = entry
    assert headers["Subject"].strip()
    assert headers["Defined-By"] == "dhashd"
    assert headers["Support"] and headers["Documentation"]
    explanation, advice = paragraphs[0], paragraphs[1]
    assert not explanation.startswith(("What to do", " ")) and len(explanation) > 80
    assert advice.startswith("What to do: ")
    assert paragraphs[2].startswith("    "), "commands to copy"


def test_its_fields_are_fields_of_the_journal(entry):
    named = set(re.findall(r"@(\w+)@", "\n\n".join(entry[1])))
    assert named <= FIELDS
    assert "@" not in re.sub(r"@\w+@", "", "\n\n".join(entry[1]))


def test_its_manual_pages_exist(entry):
    pages = re.findall(r"man:(\S+)\((\d)\)", entry[0]["Support"] + " " + entry[0]["Documentation"])
    assert pages
    for name, section in pages:
        assert (ROOT / f"man/{name}.{section}").is_file(), name


def options_of(command):
    done = subprocess.run([DHASH, "help", command], text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, f"dhash {command}: {done.stderr}"
    return set(re.findall(r"--[a-z-]+", done.stdout))


def test_its_commands_exist(entry):
    lines = [line.split() for p in entry[1] for line in p.splitlines() if line.startswith("    ")]
    assert lines
    for program, *words in lines:
        if program == "dhash":
            given = {w for w in words if w.startswith("--")}
            assert given <= options_of(words[0]), (words, given)
        elif program == "dhashd":
            assert words == ["-t"]
        else:
            assert shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin"), program
