"""Regular expressions about what strangers send: RE2's, which take linear time whatever the text is."""

import re
from typing import Any

LONGEST = 1024
"""Characters of an expression: nobody reads a longer one."""
LARGEST = 1024
"""Instructions of the program that it becomes, Istio's bound for Envoy's: each may be tried at every character."""
MEMORY = 1 << 20
"""Bytes that an expression may take while it matches; beyond them RE2 is slower, not wrong."""

_GROUP = re.compile(r"\\(.?)", re.DOTALL)

Expression = Any
"""One of RE2's, whose package has no types."""


def expression(text: str) -> Expression:
    """Compile an expression; ValueError says why it cannot be used."""
    if len(text) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters: write several matches")
    try:
        # Only who writes expressions needs the library.
        import re2  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("needs RE2: install the package google-re2") from error
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY
    try:
        found = re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"is no RE2 expression: {_said(error)}") from error
    if found.programsize > LARGEST:
        raise ValueError(
            f"becomes a program of {found.programsize} instructions, and {LARGEST} are the most"
        )
    return found


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def check_substitution(pattern: Expression, text: str) -> None:
    """Raise ValueError for a substitution that names a group which the expression does not have."""
    for found in _GROUP.finditer(text):
        if found[1] != "\\" and not (found[1].isdecimal() and int(found[1]) <= pattern.groups):
            raise ValueError(
                f"{found[0]!r} is no group of the expression: write \\1, or \\\\ for \\"
            )
