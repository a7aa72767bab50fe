"""The health service that orchestrators ask of gRPC servers, and a client that asks once and watches."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def serve(port: str) -> None:
    healthy = health.HealthServicer()

    def leave(_: bytes, __: grpc.ServicerContext) -> bytes:
        healthy.enter_graceful_shutdown()
        return b""

    server = grpc.server(ThreadPoolExecutor(8))
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    methods = {"Leave": grpc.unary_unary_rpc_method_handler(leave)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", methods),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


def name(answer: health_pb2.HealthCheckResponse) -> str:
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def call(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        print("check", name(stub.Check(health_pb2.HealthCheckRequest(), timeout=10)))
        try:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        except grpc.RpcError as error:
            print("unknown", error.code().name)
        watching = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        print("watch", name(next(watching)))
        channel.unary_unary("/echo.Echo/Leave")(b"", timeout=10)
        print("watch", name(next(watching)))


{"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
