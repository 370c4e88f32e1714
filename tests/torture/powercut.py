# SPDX-License-Identifier: Apache-2.0
"""The disk of the power-cut tests: replays what powershim.so recorded, and at any record makes a
disk that a power cut might have left there.

The model is POSIX at its harshest.  A file's data is sure when an fsync of the file that began after
the write has ended; a name is sure when its folder was synced so; a synced file in a folder whose own
name is not sure is lost.  Of what is not sure any part may be there: writes are dropped, torn at
sectors, or kept while earlier ones are dropped; sizes come without data; names come without content,
old names stay.  A rename is one act on both its folders.  Only what happens to one inode's names keeps
its order, as no file system gives one folder two names.
"""

import mmap
import os
import pickle
import stat
import struct

(CREATE, MKDIR, SYMLINK, LINK, UNLINK, RENAME, WRITE, TRUNCATE, ALLOCATE, SYNC, SYNCED, ANSWER,
 EXEC) = range(1, 14)
RECORD = struct.Struct("<IIQQQQII")
HEADER_SIZE = 16 + 40 + 8  # used, size, pthread_mutex_t, ready
SECTOR = 512
META_MODES = ("none", "all", "prefix", "subset")
DATA_MODES = ("none", "all", "writes", "sectors", "zeros")


def make_log(path, size=96 << 20):
    with open(path, "wb") as f:
        f.truncate(size)


def read_log(path):
    """The records: (kind, a, b, c, wall, first, second)."""
    found = []
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as log:
        used, = struct.unpack_from("<Q", log)
        at = HEADER_SIZE
        while at < used:
            length, kind, a, b, c, wall, n1, n2 = RECORD.unpack_from(log, at)
            data = at + RECORD.size
            found.append((kind, a, b, c, wall, log[data:data + n1], log[data + n1:data + n1 + n2]))
            at += length
    return found


def snapshot(root):
    """What is below root, which is all on disk: [(path, inode, kind, content)]."""
    found = [("", os.lstat(root).st_ino, "d", None)]
    for folder, folders, files in os.walk(root):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if stat.S_ISDIR(st.st_mode):
                kind, content = "d", None
            elif stat.S_ISLNK(st.st_mode):
                kind, content = "l", os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                kind, content = "f", pathlib_bytes(path)
            else:
                continue
            found.append((os.path.relpath(path, root), st.st_ino, kind, content))
    return found


def pathlib_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def write_tree(tree, root):
    """tree: {path: None for a folder | bytes | str, the target of a link}."""
    for path in sorted(tree):
        where, content = os.path.join(root, path), tree[path]
        if content is None:
            os.makedirs(where, exist_ok=True)
        elif isinstance(content, str):
            os.symlink(content, where)
        else:
            with open(where, "wb") as f:
                f.write(content)
                if where.endswith(".sh"):
                    os.fchmod(f.fileno(), 0o755)


class Node:
    """A file, folder or link: what is sure of it, and what is not."""

    def __init__(self, kind, content=None):
        self.kind = kind
        self.content = bytearray(content or b"") if kind == "f" else content
        self.unsure = []  # files: (number, kind, offset, data)
        self.names = {}  # folders: name → (node, number of the change)
        self.live = {}  # folders: name → node, as the programs see it


class Change:
    """An act on names: [(folder, name, node or None)], all at once."""

    def __init__(self, number, slots):
        self.number, self.slots = number, slots
        self.nodes = {id(node) for _, _, node in slots if node}
        self.folders = {id(folder) for folder, _, _ in slots}


class Disk:
    def __init__(self, start):
        self.nodes, self.number, self.changes, self.syncs = {}, 0, [], {}
        self.root, paths = None, {}
        for path, inode, kind, content in start:
            node = self.nodes[inode] = paths[path] = Node(kind, content)
            if not path:
                self.root = node
                continue
            folder, name = paths[os.path.dirname(path)], os.path.basename(path)
            folder.names[name] = (node, 0)
            folder.live[name] = node

    def at(self, path):
        node = self.root
        for name in path.split("/"):
            node = node and node.live.get(name)
        return node

    def text(self, path):
        """What the programs read there."""
        node = self.at(path)
        content = bytearray(node.content)
        for _, kind, at, data in node.unsure:
            put(content, kind, at, data)
        return content.decode()

    def write_outside(self, path, text):
        """A file written by a program that is not recorded, in place."""
        node = self.at(path)
        node.unsure += [(self.number, TRUNCATE, 0, b""), (self.number, WRITE, 0, text.encode())]

    # --- replay

    def change(self, *slots):
        change = Change(self.number, slots)
        self.changes.append(change)
        for folder, name, node in slots:
            if node:
                folder.live[name] = node
            else:
                folder.live.pop(name, None)

    def named(self, folder_inode, name, node=None, inode=0):
        """A new or gone name in a folder that is of this world."""
        folder = self.nodes.get(folder_inode)
        if folder:
            if inode:
                self.nodes[inode] = node
            self.change((folder, name.decode(), node))

    def apply(self, record):
        self.number += 1
        kind, a, b, c, _, first, second = record
        if kind in (CREATE, MKDIR, SYMLINK):
            node = Node({CREATE: "f", MKDIR: "d", SYMLINK: "l"}[kind], second.decode() if kind == SYMLINK else None)
            self.named(a, first, node, b)
        elif kind == LINK and b in self.nodes:
            self.named(a, first, self.nodes[b])
        elif kind == UNLINK:
            self.named(a, first)
        elif kind == RENAME:
            self.rename(a, b, c, first.decode(), second.decode())
        elif kind in (WRITE, TRUNCATE, ALLOCATE) and a in self.nodes:
            self.nodes[a].unsure.append((self.number, kind, b, first))
        elif kind == SYNC:
            self.syncs[b] = (self.number, self.nodes.get(a))
        elif kind == SYNCED:
            self.synced(*self.syncs.pop(b), everything=a == 0)

    def rename(self, a, b, exchange, old, new):
        source, target = self.nodes.get(a), self.nodes.get(b)
        if not source or not target or old not in source.live:
            return
        moved = source.live[old]
        if exchange:
            self.change((source, old, target.live[new]), (target, new, moved))
        else:
            self.change((source, old, None), (target, new, moved))

    def synced(self, number, node, everything):
        if everything:
            for each in list(self.nodes.values()):
                self.synced_file(each, number)
            self.settle([c for c in self.changes if c.number < number])
        elif node and node.kind == "f":
            self.synced_file(node, number)
        elif node:
            self.settle([c for c in self.changes if c.number < number and id(node) in c.folders])

    def synced_file(self, node, number):
        if node.kind != "f":
            return
        for entry in node.unsure:
            if entry[0] < number:
                put(node.content, *entry[1:])
        node.unsure = [e for e in node.unsure if e[0] >= number]

    def settle(self, changes):
        chosen = self.closure(changes)
        for change in self.changes:
            if change in chosen:
                for folder, name, node in change.slots:
                    set_name(folder.names, name, node, change.number)
        self.changes = [c for c in self.changes if c not in chosen]

    def closure(self, changes):
        """With a change come the earlier ones of the same inodes."""
        chosen, nodes = set(), set()
        wanted = set(changes)
        for change in reversed(self.changes):
            if change in wanted or change.nodes & nodes:
                chosen.add(change)
                nodes |= change.nodes
        return chosen

    # --- the cut

    def whole(self):
        """The tree as the programs see it."""
        self.settle(self.changes)
        for node in set(self.nodes.values()):
            self.synced_file(node, self.number + 1)
        tree = {}
        self.walk(self.root, "", {}, tree, "none", None, 0)
        return tree

    def crash(self, rng):
        """A tree for write_tree(), and a word on what kind of cut it was."""
        mode = rng.choices(META_MODES, (3, 1, 2, 4))[0]
        chosen = self.closure(self.choose_changes(mode, rng))
        names = {}
        for change in self.changes:
            if change in chosen:
                for folder, name, node in change.slots:
                    overlay = names.setdefault(id(folder), dict(folder.names))
                    set_name(overlay, name, node, change.number)
        data = rng.choice(DATA_MODES + ("mixed",) * 3)
        tree = {}
        self.walk(self.root, "", names, tree, data, rng, 0)
        return tree, f"names {mode}, data {data}"

    def choose_changes(self, mode, rng):
        if mode == "none":
            return []
        if mode == "all":
            return self.changes
        if mode == "prefix":
            return self.changes[:rng.randint(0, len(self.changes))]
        share = rng.random()
        return [c for c in self.changes if rng.random() < share]

    def walk(self, folder, path, names, tree, data, rng, depth):
        assert depth < 40, "folders in a circle"
        for name, (node, _) in sorted(names.get(id(folder), folder.names).items()):
            if node is None:
                continue
            where = f"{path}{name}"
            if node.kind == "d":
                tree[where] = None
                self.walk(node, where + "/", names, tree, data, rng, depth + 1)
            elif node.kind == "l":
                tree[where] = node.content
            else:
                tree[where] = crashed_file(node, rng.choice(DATA_MODES) if data == "mixed" else data, rng)


def set_name(names, name, node, number):
    """A later change of the same name that is there already stays."""
    if names.get(name, (None, -1))[1] < number:
        names[name] = (node, number)


def put(content, kind, at, data):
    if kind == TRUNCATE:
        if at < len(content):
            del content[at:]
        else:
            content.extend(bytes(at - len(content)))
        return
    end = at + len(data)
    if end > len(content):
        content.extend(bytes(end - len(content)))
    content[at:end] = data


def crashed_file(node, mode, rng):
    if not node.unsure or mode == "none":
        return bytes(node.content)
    content, share = bytearray(node.content), rng.random()
    for _, kind, at, data in node.unsure:
        if mode == "all" or (mode != "sectors" or kind != WRITE) and rng.random() < share:
            put(content, kind, at, bytes(len(data)) if mode == "zeros" and at >= len(node.content) else data)
        elif mode == "sectors":
            for begin, end in sectors(at, at + len(data)):
                if rng.random() < share:
                    put(content, WRITE, begin, data[begin - at:end - at])
    return bytes(content)


def sectors(begin, end):
    while begin < end:
        stop = min(end, (begin // SECTOR + 1) * SECTOR)
        yield begin, stop
        begin = stop


def save(path, what):
    with open(path, "wb") as f:
        pickle.dump(what, f)


def load(path):
    with open(path, "rb") as f:
        return pickle.load(f)


def copy_log(source, target):
    """Without the empty end."""
    with open(source, "rb") as f:
        used, = struct.unpack("<Q", f.read(8))
        f.seek(0)
        with open(target, "wb") as out:
            out.write(f.read(used))
