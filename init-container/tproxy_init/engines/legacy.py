"""Questions to the kernel's legacy tables that do not bring them into being.

Opening a legacy table creates it, and a table that exists costs every packet; so nothing here
opens one that is not already there. Numbers are those of linux/netfilter_ipv4/ip_tables.h and
its IPv6 twin.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress

from tproxy_init.render import xt_extensions, xt_target
from tproxy_init.rules import PREFIX, Family, Plan, Table

GET_INFO = 64
GET_ENTRIES = 65

LEVEL = {Family.V4: socket.IPPROTO_IP, Family.V6: socket.IPPROTO_IPV6}
DOMAIN = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
NAMES = {Family.V4: "/proc/self/net/ip_tables_names", Family.V6: "/proc/self/net/ip6_tables_names"}
GET_REVISION_MATCH = {Family.V4: 66, Family.V6: 68}
GET_REVISION_TARGET = {Family.V4: 67, Family.V6: 69}

OFFSETS_AT = {Family.V4: 88, Family.V6: 140}
"""Where an entry says how far away its target and the next entry are."""
TARGET_HEADER = 32
NAME_LENGTH = 30

REVISIONS = {
    "owner": 1,
    "multiport": 1,
    "socket": 1,
    "conntrack": 1,
    "CT": 1,
    "MARK": 2,
    "TPROXY": 1,
}
"""The revision of each extension that every user space of the last ten years can speak."""


def instantiated(family: Family) -> set[str]:
    """The tables that exist in this network namespace."""
    try:
        with open(NAMES[family], encoding="ascii") as names:
            return set(names.read().split())
    except OSError:
        return set()


def has_chain(family: Family, prefix: str) -> bool:
    """A chain starting with `prefix` stands in some table that exists."""
    return any(
        name.startswith(prefix)
        for table in instantiated(family)
        for name in _chain_names(family, table_bytes(family, table))
    )


def holds_ours() -> bool:
    """Chains of ours are in a legacy table of either family."""
    return any(has_chain(family, PREFIX) for family in Family)


def refusal(plan: Plan) -> str | None:
    """The first thing `plan` needs that the legacy tables lack."""
    for family in plan.families:
        if missing := _lacking(family, plan):
            return f"the kernel has no legacy {missing} for IPv{family}"
    return None


def _lacking(family: Family, plan: Plan) -> str | None:
    if not os.path.exists(NAMES[family]):
        return "tables"
    try:
        asked = socket.socket(DOMAIN[family], socket.SOCK_RAW, socket.IPPROTO_RAW)
    except OSError as error:
        return f"tables within our reach ({error.strerror}; CAP_NET_RAW is needed)"
    with asked:
        for option, name in _extensions(plan, family):
            if not _known(asked, LEVEL[family], option, name):
                return name
    return None


def _extensions(plan: Plan, family: Family) -> Iterable[tuple[int, str]]:
    needed: dict[tuple[int, str], None] = {}
    for rule in (rule for table in Table for rule in plan.of(table, family)):
        for name, _ in xt_extensions(rule.when):
            needed[GET_REVISION_MATCH[family], name] = None
        name, parameters = xt_target(rule.target, family)
        if parameters:
            needed[GET_REVISION_TARGET[family], name] = None
    return needed


def _known(asked: socket.socket, level: int, option: int, name: str) -> bool:
    question = struct.pack("29sB", name.encode(), REVISIONS.get(name, 0))
    try:
        _ask(asked, level, option, question)
    except OSError:
        return False
    return True


def _chain_names(family: Family, entries: bytes) -> Iterator[str]:
    """The chains of our own making: each is opened by an entry that names it as an error."""
    at = 0
    while at < len(entries):
        to_target, to_next = struct.unpack_from("HH", entries, at + OFFSETS_AT[family])
        target = at + to_target
        if _text(entries, target + 2) == "ERROR":
            yield _text(entries, target + TARGET_HEADER)
        at += to_next


def _text(entries: bytes, at: int) -> str:
    return entries[at : at + NAME_LENGTH].split(b"\0", 1)[0].decode("ascii", "replace")


def table_bytes(family: Family, table: str) -> bytes:
    """The entries of a table as the kernel keeps them; nothing when there is no such table."""
    with (
        suppress(OSError),
        socket.socket(DOMAIN[family], socket.SOCK_RAW, socket.IPPROTO_RAW) as asked,
    ):
        info = _ask(
            asked, LEVEL[family], GET_INFO, struct.pack("32s13I", table.encode(), *[0] * 13)
        )
        size = struct.unpack("32s13I", info)[-1]
        header = struct.pack("32sI4x", table.encode(), size)
        return _ask(asked, LEVEL[family], GET_ENTRIES, header + bytes(size))[len(header) :]
    return b""


def _ask(asked: socket.socket, level: int, option: int, question: bytes) -> bytes:
    """getsockopt with a question in the buffer, which Python's own cannot carry."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    if libc.getsockopt(asked.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw
