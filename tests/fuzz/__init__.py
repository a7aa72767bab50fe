"""Damaged bytes for everything that reads a peer's bytes, and the claims that must hold of each of them."""
