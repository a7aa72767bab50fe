"""BLAKE2b as the interpreter has it: `hashlib` loads OpenSSL for the same sums, 3.5 MiB in each sidecar."""

try:
    from _blake2 import blake2b
except ModuleNotFoundError:
    from hashlib import blake2b  # of an interpreter that has none but OpenSSL's

__all__ = ["blake2b"]
