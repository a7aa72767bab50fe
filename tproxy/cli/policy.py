"""`tproxy policy`: look at policies away from traffic, on what the sidecar itself would make of them."""

import click

from tproxy.cli.policy_check import check
from tproxy.cli.policy_diff import diff
from tproxy.cli.policy_explain import explain
from tproxy.cli.policy_test import test


@click.group()
def policy() -> None:
    """Check, test and explain policy files, and see what others would change."""


for command in (check, test, explain, diff):
    policy.add_command(command)
