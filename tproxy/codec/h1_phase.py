"""How far one message of an HTTP/1 exchange is: the words that both sides share."""

from enum import Enum, auto
from typing import Final


class Phase(Enum):
    """Of a message's way, and of the connection's: a request that has not begun means an idle connection."""

    HEAD = auto()
    """Its head has not come, or was not sent."""
    TUNNEL = auto()
    """It asked for a tunnel, and the answer will say whether the connection stays HTTP."""
    BODY = auto()
    DONE = auto()


# By these names, as Python 3.11 takes long to find a member of its enum.
HEAD: Final = Phase.HEAD
TUNNEL: Final = Phase.TUNNEL
BODY: Final = Phase.BODY
DONE: Final = Phase.DONE
