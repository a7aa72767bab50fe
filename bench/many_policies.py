"""Many policies of the kinds that operators have, as text: what the growth of a request's cost is measured with."""

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


def many(count: int) -> Sequence[str]:
    """`count` policies: half of the others deny, half allow, none is about what the loads ask; the last allows that."""
    others = [
        HEAD.format(name=f"policy-{number:04}") + (DENY, ALLOW)[number % 2].format(number=number)
        for number in range(count - 1)
    ]
    return [*others, HEAD.format(name="zz-application") + SERVER]
