"""Ask later policies about connections that earlier ones admitted, and end those that are denied; no others."""

from tproxy.model.outcome import PLAINTEXT, refusal
from tproxy.proxy.register import Register
from tproxy.stores.policy_store import PolicyStore


async def rejudge(policies: PolicyStore, register: Register) -> None:
    """Look at every connection carried as bytes whenever policies change, until cancelled.

    HTTP connections are asked about with each request, and their tunnels by the filter that let them open.
    """
    while True:
        await policies.superseded()
        current = policies.current
        for relay in list(register.relays):
            decision = current.admit(relay.flow)
            if current.must_prove_itself(relay.flow):
                relay.end(PLAINTEXT)
            elif not decision.allowed:
                relay.end(refusal(decision))
