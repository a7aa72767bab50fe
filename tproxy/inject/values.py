"""Values of the init step's options, read as it reads them: what it would refuse is refused before a pod is made."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

_PORTS = re.compile(r"(\d{1,5})(?:[-:](\d{1,5}))?")
_IDS = re.compile(r"(\d{1,9})(?:[-:](\d{1,9}))?")
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}\+?")
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE](-?\d{1,2}))?")
_UNITS = {
    **{unit: Decimal(10) ** (3 * power) for power, unit in enumerate("num kMGTPE", -3)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
HIGHEST_PORT = 65535


def ports(text: str) -> str:
    """Read ports and ranges of them, separated by commas; ValueError for what cannot be meant."""
    for each in _items(text):
        found = _PORTS.fullmatch(each)
        first = int(found[1]) if found else 0
        last = int(found[2] or first) if found else 0
        if not 1 <= first <= last <= HIGHEST_PORT:
            raise ValueError(f"{each!r} is no port, nor a range of ports as 8000-8010")
    return text


def every_port(text: str) -> str:
    """Read ports, or `*` for all."""
    return text if text.strip() == "*" else ports(text)


def every_network(text: str) -> str:
    """Read networks, or `*` for all."""
    return text if text.strip() == "*" else networks(text)


def networks(text: str) -> str:
    """Read networks, each by its own address."""
    for each in _items(text):
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ValueError(f"{each!r} is no network as 10.0.0.0/8: {error}") from None
    return text


def interfaces(text: str) -> str:
    """Read names of interfaces."""
    for each in _items(text):
        if not _INTERFACE.fullmatch(each):
            raise ValueError(f"{each!r} is no name of an interface")
    return text


def switch(text: str) -> bool:
    """Read true or false."""
    if text not in ("true", "false"):
        raise ValueError(f'{text!r} is neither "true" nor "false"')
    return text == "true"


def amount(text: str) -> str:
    """Read an amount of a resource."""
    size(text)
    return text


def size(text: str) -> Decimal:
    """Give the number that an amount stands for; ValueError for what is none."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no amount as 200m or 128Mi")
    number, unit, power = found.groups()
    return Decimal(number) * (Decimal(10) ** int(power) if power else _UNITS[unit or " "])


def one_of(*words: str) -> Callable[[str], str]:
    """Read one of `words`."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _items(text: str) -> list[str]:
    if not text.strip():
        return []
    items = [each.strip() for each in text.split(",")]
    if "" in items:
        raise ValueError(f"{text!r} has an empty entry between commas")
    return items


def ids(text: str) -> str:
    """Read UIDs or GIDs, and ranges of them."""
    for each in _items(text):
        found = _IDS.fullmatch(each)
        if found is None or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(f"{each!r} is neither a number nor a range as 1000-2000")
    return text


CAPTURE: Mapping[str, Callable[[str], str]] = {
    "inbound-mode": one_of("redirect", "tproxy"),
    "include-inbound-ports": every_port,
    "exclude-inbound-ports": ports,
    "exclude-inbound-cidrs": networks,
    "include-outbound-ports": ports,
    "exclude-outbound-ports": ports,
    "include-outbound-cidrs": every_network,
    "exclude-outbound-cidrs": networks,
    "exclude-interfaces": interfaces,
    "exclude-uids": ids,
    "exclude-gids": ids,
    "ipv6": one_of("auto", "capture", "block"),
}
"""The init step's options that a manifest may set, by name."""
