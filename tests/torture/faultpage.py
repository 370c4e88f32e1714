# SPDX-License-Identifier: Apache-2.0
"""The page shared with faultshim.so (faultpage.h has the layout), and what there is to fail."""

import collections
import errno
import mmap
import os
import struct

FAMILIES = ("memory", "open", "read", "write", "sync", "rename", "size", "mkdir", "unlink", "stat", "list",
            "process", "thread", "socket", "connect", "accept", "epoll", "resolve")
ROOM, SITES, FRAMES = 20, 8192, 10
DAEMON, RUNNER = 0, 1

# getaddrinfo() has numbers of its own; the library turns the sign.
EAI = {"EAI_AGAIN": 3, "EAI_FAIL": 4, "EAI_MEMORY": 10}
ERRORS = {
    "memory": ["ENOMEM"], "open": ["EMFILE", "ENFILE", "EIO", "EACCES"], "read": ["EIO"],
    "write": ["ENOSPC", "EIO", "EDQUOT"], "sync": ["EIO", "ENOSPC"], "rename": ["EIO", "ENOSPC"],
    "size": ["ENOSPC", "EIO"], "mkdir": ["ENOSPC", "EIO"], "unlink": ["EIO"], "stat": ["EIO", "EACCES"],
    "list": ["EMFILE", "EIO"], "process": ["EAGAIN", "ENOMEM"], "thread": ["EAGAIN"],
    "socket": ["EMFILE", "ENFILE", "ENOBUFS"], "connect": ["EADDRNOTAVAIL", "ENOBUFS", "ENOMEM"],
    "accept": ["EMFILE", "ENFILE", "ENOBUFS", "ECONNABORTED"], "epoll": ["ENOMEM", "ENOSPC"],
    "resolve": list(EAI)}
# Of one connection, which is gone with it: never for good.
PASSING = {"ECONNABORTED"}
# What fails together for good, as it does in life.
TOGETHER = (
    ({"EMFILE", "ENFILE"}, {"open", "socket", "accept", "list"}),
    ({"ENOSPC", "EDQUOT"}, {"write", "size", "mkdir", "rename"}),
    ({"EIO"}, {"read", "write", "sync", "size", "rename", "mkdir", "unlink"}))

HEAD = struct.Struct("<9Q")
DONE, FAILED, CALLS = 72, 80, 88
FAILS, WHERE = CALLS + 8 * ROOM, CALLS + 16 * ROOM
WHAT = WHERE + 8 * FRAMES
TABLE = WHAT + 256
SITE = struct.Struct(f"<{3 + FRAMES}Q")
SIZE = TABLE + SITE.size * SITES

Fault = collections.namedtuple("Fault", "role family site nth error for_good part plan")
Site = collections.namedtuple("Site", "role family hash hits where")


def number_of(name):
    return EAI[name] if name in EAI else getattr(errno, name)


def said_as(name):
    """How messages may name the error: SQLite, libcurl and the program's end have words of their own."""
    words = {"ENOSPC": ["database or disk is full"], "EACCES": ["readonly database", "unable to open database"],
             "EMFILE": ["readonly database"], "ENFILE": ["readonly database"], "EIO": ["readonly database"],
             "ENOMEM": ["out of memory", "too little memory"]}.get(name, [])
    return [os.strerror(number_of(name)), *words] if name not in EAI else ["resolve"]


def together(fault):
    for errors, families in TOGETHER:
        if fault.error in errors and fault.family in families:
            return families
    return {fault.family}


class Page:
    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            f.truncate(SIZE)
            self.map = mmap.mmap(f.fileno(), SIZE)

    def close(self):
        self.map.close()

    def set(self, fault=None, role=DAEMON):
        """Arms it; without a fault it only counts."""
        if fault:
            bits = sum(1 << FAMILIES.index(f) for f in together(fault))
            words = (fault.role, FAMILIES.index(fault.family), fault.site, fault.nth, number_of(fault.error),
                     fault.part, fault.for_good, bits)
        else:
            words = (role, ROOM - 1, 0, 0, 0, 0, 0, 0)
        HEAD.pack_into(self.map, 0, 1, *words)

    def lift(self):
        self.map[:8] = bytes(8)

    def number(self, at):
        return struct.unpack_from("<Q", self.map, at)[0]

    @property
    def done(self):
        return self.number(DONE)

    @property
    def failed(self):
        return self.number(FAILED)

    @property
    def what(self):
        return self.map[WHAT:TABLE].split(b"\0")[0].decode(errors="replace")

    @property
    def where(self):
        return struct.unpack_from(f"<{FRAMES}Q", self.map, WHERE)

    def sites(self, role):
        for i in range(SITES):
            hash_, hits, family, *where = SITE.unpack_from(self.map, TABLE + i * SITE.size)
            if hash_ and family < len(FAMILIES):
                yield Site(role, FAMILIES[family], hash_, hits, tuple(where))
