"""Keep what goes wrong by a mistake of ours from ending more than what it went wrong with."""

import logging
from collections.abc import Awaitable

LOG = logging.getLogger(__name__)


async def guarded(what: object, work: Awaitable[None]) -> None:
    """Guard the rest of the program: what nobody expected ends here, and is told."""
    try:
        await work
    except Exception:
        LOG.exception("%s ended by a mistake of the proxy's", what)
