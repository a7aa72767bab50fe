"""A name server for one zone: `FILE` holds lines as `NAME TTL TYPE DATA`, read anew for each question."""

import socket
import sys
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

zone = Path(sys.argv[1])


def answer(asked: bytes) -> bytes:
    """Answer one question."""
    query = dns.message.from_wire(asked)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA | dns.flags.RA
    question = query.question[0]
    known = [line.split(maxsplit=3) for line in zone.read_text().splitlines()]
    mine = [each for each in known if dns.name.from_text(each[0]) == question.name]
    if not mine:
        response.set_rcode(dns.rcode.NXDOMAIN)
    for name, ttl, kind, data in mine:
        if dns.rdatatype.from_text(kind) == question.rdtype:
            response.answer.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, data))
    return response.to_wire()


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        asked, peer = server.recvfrom(4096)
        server.sendto(answer(asked), peer)
