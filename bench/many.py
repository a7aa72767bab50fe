"""Many policies, and many routes, as operators have them, as text: what the growth of a request's cost is measured with."""

from collections.abc import Sequence

HEAD = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
"""
DENY = """spec:
  action: DENY
  rules:
  - to: [{{operation: {{ports: ["8080"], paths: [/internal/{number}, /internal/{number}/*]}}}}]
"""
ALLOW = """spec:
  action: ALLOW
  rules:
  - to: [{{operation: {{ports: ["8080"], methods: [GET], paths: [/service/{number}/*]}}}}]
"""
SERVER = """spec:
  action: ALLOW
  rules:
  - to: [{operation: {ports: ["8080"], methods: [GET, POST], paths: [/*]}}]
"""


HOST = "server.example"
"""The name under which routes know the server, wherever it is."""
ENTRY = f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: server, namespace: default}}
spec: {{hosts: [{HOST}], ports: [{{number: 8080, name: http, protocol: HTTP}}], resolution: NONE}}
"""
SERVICE = f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: server, namespace: default}}
spec:
  hosts: [{HOST}]
  http:
"""
ROUTE = f"route: [{{destination: {{host: {HOST}}}}}]\n"


def many_routes(count: int) -> Sequence[str]:
    """An entry and a service of `count` routes, of which the last one takes what the loads ask."""
    others = [
        f"  - match: [{{uri: {{prefix: /service/{number}/}}}}]\n    {ROUTE}"
        for number in range(count - 1)
    ]
    return [ENTRY, "".join((SERVICE, *others, f"  - {ROUTE}"))]


def many_policies(count: int) -> Sequence[str]:
    """`count` policies: half of the others deny, half allow, none is about what the loads ask; the last allows that."""
    others = [
        HEAD.format(name=f"policy-{number:04}") + (DENY, ALLOW)[number % 2].format(number=number)
        for number in range(count - 1)
    ]
    return [*others, HEAD.format(name="zz-application") + SERVER]
