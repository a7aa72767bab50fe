"""A gRPC service and its client, all four kinds of call, with bytes for messages."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    if request == b"refuse":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked")
    context.set_trailing_metadata((("x-seen", "yes"), ("x-raw-bin", b"\x00\xff")))
    return request.upper()


def upload(requests: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(len(each) for each in requests)


def download(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def talk(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    for each in requests:
        yield each[::-1]


def serve(port: str) -> None:
    server = grpc.server(ThreadPoolExecutor(8))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def call(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        answer, called = channel.unary_unary("/echo.Echo/Unary").with_call(b"hello", timeout=10)
        print("unary", answer, dict(called.trailing_metadata()))
        print(
            "upload",
            channel.stream_unary("/echo.Echo/Upload")(iter([b"x" * 100_000] * 20), timeout=10),
        )
        print(
            "download", len(list(channel.unary_stream("/echo.Echo/Download")(b"500", timeout=10)))
        )
        print(
            "talk", list(channel.stream_stream("/echo.Echo/Talk")(iter([b"ab", b"cd"]), timeout=10))
        )
        try:
            channel.unary_unary("/echo.Echo/Unary")(b"refuse", timeout=10)
        except grpc.RpcError as error:
            print("refused", error.code().name, error.details())


def fail(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary("/echo.Echo/Unary")(b"hello", timeout=10)
        except grpc.RpcError as error:
            print("failed", error.code().name)


{"serve": serve, "call": call, "fail": fail}[sys.argv[1]](sys.argv[2])
