"""Bytes to HTTP events and back, for either version and either side; the only importer of h11, httptools and h2."""
