# SPDX-License-Identifier: Apache-2.0
"""Mutants that the power cuts must catch: the program with one line of its care for the disk taken out.

The tree is copied with its objects, so that only what was changed is built again.
"""

import os
import shutil
import subprocess

from powerworld import BUILD, ROOT, Failure

# name: (file, what stands there, what the mutant has instead)
MUTANTS = {
    "normal": ("daemon/store_schema.c",
               ('"PRAGMA synchronous = FULL;', '"PRAGMA synchronous = NORMAL;'), ('"PRAGMA synchronous", "2"',
                                                                                '"PRAGMA synchronous", "1"')),
    "mkdir": ("common/util.c", ("		r = folder_sync(path);\n		return r == -EACCES ? 0 : r;", "		return 0;")),
    "note": ("daemon/act_release.c", ("return r < 0 ? r : session_sync(a->daemon->options.state_dir, a->d.id);",
                                      "return r;")),
    "folder-sync": ("common/util.c", ("	if (fsync(fd) < 0)\n		r = -errno;\n	close(fd);\n	return r;",
                                      "	close(fd);\n	return r;")),
    "started-sync": ("daemon/run/started.c", ("		r = sync_folders(f->folder);\n		if (r < 0)\n			unlink(f->started);",
                                              "		if (r < 0)\n			unlink(f->started);")),
    "backup-data": ("daemon/release/backup.c", ("if (r == 0 && fsync(fd) < 0)", "if (r == 0 && fd < 0)")),
    "release-data": ("daemon/release/engine.c", ("if (r == 0 && syncfs(fd) < 0)", "if (r == 0 && fd < 0)")),
    "link-folder": ("daemon/release/current.c", ("	if (fsync(fd) < 0)", "	if (fd < 0)")),
}
# What has to be played for a mutant to matter at all.
SCRIPTS = {"note": "again"}


def chosen(text):
    names = list(MUTANTS) if text == "all" else [] if text == "none" else text.split(",")
    for name in names:
        if name not in MUTANTS:
            raise SystemExit(f"there is no mutant {name}: there are {', '.join(MUTANTS)}")
    return names


def build(name, folder):
    """Returns the path of the mutant's dhashd; its runner stands beside it."""
    for part in ("common", "daemon", "client", "Makefile"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part)
        else:
            shutil.copy2(ROOT / part, folder)
    shutil.copytree(BUILD / "obj", folder / "build/obj", ignore=lambda d, n: [x for x in n if x == "tests"])
    path, *changes = MUTANTS[name]
    text = (folder / path).read_text()
    for old, new in changes:
        if text.count(old) != 1:
            raise Failure(f"mutant {name}: {path} no longer has, once: {old}")
        text = text.replace(old, new)
    (folder / path).write_text(text)
    done = subprocess.run(["make", "-C", str(folder), "BUILD=build", "all"], capture_output=True, text=True,
                          env={**os.environ, "MAKEFLAGS": ""})
    if done.returncode != 0:
        raise Failure(f"mutant {name} does not build:\n{done.stdout}{done.stderr}")
    return folder / "build/dhashd"
