"""Read /etc/hosts."""

from collections.abc import Mapping
from ipaddress import ip_address


def host_names(text: str) -> Mapping[str, tuple[str, ...]]:
    """Give each name, in lower case, its addresses in their order; lines that say nothing sensible are passed over."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if is_address(address):
            for name in names:
                known = found.get(name.lower(), ())
                found[name.lower()] = known if address in known else (*known, address)
    return found


def is_address(text: str) -> bool:
    """Whether a text is a numeric address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
