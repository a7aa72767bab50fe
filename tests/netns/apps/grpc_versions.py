"""A gRPC service in versions, and its client: `serve NAME PORT [STATUS]` answers its name, or always a status.

`call TARGET NUMBER METHOD [SECONDS]` counts what comes of so many calls.
"""

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc


def serve(name: str, port: str, status: str = "OK") -> None:
    def who(_: bytes, context: grpc.ServicerContext) -> bytes:
        if status != "OK":
            context.abort(grpc.StatusCode[status], "as told")
        return name.encode()

    def late(request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(1)  # noqa: TID251 - a thread of its own
        return who(request, context)

    server = grpc.server(ThreadPoolExecutor(16))
    methods = {
        "Who": grpc.unary_unary_rpc_method_handler(who),
        "Late": grpc.unary_unary_rpc_method_handler(late),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", methods),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def call(target: str, number: str, method: str, seconds: str = "10") -> None:
    counts: Counter[str] = Counter()
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(f"/shop.Shop/{method}")
        for _ in range(int(number)):
            try:
                counts[ask(b"", timeout=float(seconds)).decode()] += 1
            except grpc.RpcError as error:
                counts[error.code().name] += 1
    print(*(f"{name}={count}" for name, count in sorted(counts.items())))


if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
else:
    call(*sys.argv[2:])
