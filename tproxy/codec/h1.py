"""The two sides of HTTP/1, by the names the data path knows."""

from tproxy.codec.h1_client import Http1Client
from tproxy.codec.h1_server import Http1Server

__all__ = ["Http1Client", "Http1Server"]
