"""What explanations do not show."""

import re

HIDDEN = "(hidden)"
"""Stands for what must not be shown."""

_SECRET = re.compile(
    r"auth|cookie|token|secret|passw|api-?key|session|credential|signature|jwt|assertion"
)


def secret(header: str) -> bool:
    """Whether a header's values may let somebody in, by its name in lower case: too often rather than too rarely."""
    return _SECRET.search(header) is not None
