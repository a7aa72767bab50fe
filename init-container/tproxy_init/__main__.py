"""tproxy-init: plan, apply, verify and clean up the capture of a pod's traffic."""

import os
import sys
from collections.abc import Sequence

from tproxy_init.apply import BOTH, V4_ONLY, apply, cleanup
from tproxy_init.capture import Capture, Ipv6
from tproxy_init.detect import engines
from tproxy_init.errors import Exit, InitError
from tproxy_init.options import Format, Request, Verb, read
from tproxy_init.plan import plan
from tproxy_init.render import json_text, nft_text, plain_restore_text, table_text
from tproxy_init.rules import Plan
from tproxy_init.status import status_text
from tproxy_init.verify import verify


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv` says; the exit code is one of Exit's."""
    try:
        _run(read(sys.argv[1:] if argv is None else argv, os.environ))
    except InitError as error:
        sys.stderr.write(f"tproxy-init: {error}\n")
        return error.exit_code
    return Exit.OK


def _run(request: Request) -> None:
    match request.verb:
        case Verb.PLAN:
            sys.stdout.write(_printed(_whole_plan(request.capture), request.format))
        case Verb.APPLY if request.dry_run:
            sys.stdout.write(plain_restore_text(_whole_plan(request.capture)))
        case Verb.APPLY:
            _apply(request)
        case Verb.VERIFY:
            _verify(request.capture)
        case Verb.STATUS:
            sys.stdout.write(status_text(request.capture, engines(request.backend)))
        case Verb.CLEANUP:
            cleaned = cleanup()
            sys.stdout.write(
                f"removed from {', '.join(cleaned)}\n" if cleaned else "nothing to remove\n"
            )


def _whole_plan(capture: Capture) -> Plan:
    """The plan without a look at this machine, so that it reads the same everywhere."""
    return plan(capture, V4_ONLY if capture.ipv6 is Ipv6.BLOCK else BOTH)


def _printed(wanted: Plan, format_: Format) -> str:
    match format_:
        case Format.TABLE:
            return table_text(wanted)
        case Format.RESTORE:
            return plain_restore_text(wanted)
        case Format.NFT:
            return nft_text(wanted)
        case Format.JSON:
            return json_text(wanted)


def _apply(request: Request) -> None:
    applied = apply(request.capture, candidates=engines(request.backend), force=request.force)
    for refused in applied.refused:
        sys.stderr.write(f"tproxy-init: passed over {refused}\n")
    families = " and ".join(f"IPv{family}" for family in applied.plan.families)
    sys.stdout.write(f"capturing {families} by {applied.engine}: {len(applied.plan.rules)} rules\n")
    if request.verify:
        _verify(request.capture)


def _verify(capture: Capture) -> None:
    sys.stdout.writelines(f"ok: {line}\n" for line in verify(capture))


if __name__ == "__main__":
    sys.exit(main())
