"""A gRPC service that keeps its callers waiting and notes who gave up, and clients that do."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event

import grpc

LARGEST = 4 << 20
OPTIONS = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
BINARY = bytes(range(256))

given_up: Queue[bytes] = Queue()


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    over = Event()
    context.add_callback(over.set)
    context.send_initial_metadata((("x-waiting", "yes"),))
    over.wait(20)
    given_up.put(request if not context.is_active() else b"nobody")
    return b""


def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield wait(request, context)


def gave_up(_: bytes, __: grpc.ServicerContext) -> bytes:
    return given_up.get(timeout=10)


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    given = [
        (key, value) for key, value in context.invocation_metadata() if key.startswith("x-echo")
    ]
    context.send_initial_metadata(given)
    context.set_trailing_metadata(given)
    return request


def serve(port: str) -> None:
    server = grpc.server(ThreadPoolExecutor(8), options=OPTIONS)
    methods = {
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "WaitStreaming": grpc.unary_stream_rpc_method_handler(stream),
        "GaveUp": grpc.unary_unary_rpc_method_handler(gave_up),
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def deadline(channel: grpc.Channel) -> None:
    try:
        channel.unary_unary("/echo.Echo/Wait")(b"whose time was up", timeout=0.5)
    except grpc.RpcError as error:
        print(error.code().name)


def cancel(channel: grpc.Channel) -> None:
    call = channel.unary_stream("/echo.Echo/WaitStreaming")(b"who changed his mind", timeout=20)
    print(dict(call.initial_metadata())["x-waiting"])
    print(call.cancel(), call.code().name)


def large(channel: grpc.Channel) -> None:
    message = BINARY * (LARGEST // 256)
    print(channel.unary_unary("/echo.Echo/Echo")(message, timeout=20) == message)


def metadata(channel: grpc.Channel) -> None:
    given = (("x-echo-bin", BINARY), ("x-echo-bin", b""), ("x-echo", "some text"))
    echo = channel.unary_unary("/echo.Echo/Echo")
    _, call = echo.with_call(b"", metadata=given, timeout=10)
    for received in (call.initial_metadata(), call.trailing_metadata()):
        echoed = sorted((key, value) for key, value in received if key.startswith("x-echo"))
        print(echoed == sorted(given))


CALLS = {"deadline": deadline, "cancel": cancel, "large": large, "metadata": metadata}
if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    with grpc.insecure_channel(sys.argv[2], options=OPTIONS) as channel:
        CALLS[sys.argv[1]](channel)
        if sys.argv[1] in ("deadline", "cancel"):
            print(channel.unary_unary("/echo.Echo/GaveUp")(b"", timeout=10).decode())
