"""Certificates and what is proven by them: the only importer of OpenSSL."""
