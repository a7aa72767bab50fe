"""Serve one downstream HTTP connection, whichever version: each request to the handler, each answer to the peer."""

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import trio
from msgspec.structs import replace

from tproxy.model.http import Life, Request, Response
from tproxy.model.limits import Limits
from tproxy.model.outcome import Dropped, ProxyError, downstream_gone
from tproxy.net.alongside import alongside
from tproxy.net.bell import Bell
from tproxy.net.http_connection import HttpConnection
from tproxy.net.http_stream import HttpStream
from tproxy.net.pump import reset_when_sent

Answer = Callable[[Request], Awaitable[Response]]
"""A handler that knows the connection's facts already."""

LINGER_BYTES = 1048576
"""What a peer may still send after an answer that came early. Closing on unread bytes would reset the connection and
destroy the answer on its way (RFC 9112, 9.6); reading for ever would be an invitation."""

LAST_REQUEST_SECONDS = 1.0
"""How long to wait, once we take our leave, for a request that a peer had sent before it could know."""

IDLE_HANDS = 32
"""Tasks that may wait for another exchange on a connection with several streams; they go when it has rested a while."""

DOUBT_SECONDS = 1.0
"""How long to go on for a peer that has ended its stream: most have left, some have only said their last word."""


class HttpServer:
    """One connection being served. What changes: whether it takes its leave, and whether its peer seems gone."""

    def __init__(self, connection: HttpConnection, answer: Answer, limits: Limits) -> None:
        self.connection = connection
        self.progress = 0
        """Requests that were taken."""
        self._answer = answer
        self._limits = limits
        self._until_idle = trio.CancelScope()
        self._leaving = False
        self._doubted = False
        """Whether the peer has ended its stream, as far as we know."""
        self._due: deque[HttpStream] = deque()
        """Exchanges that wait for a task; with one stream at a time there is no need."""
        self._hands: list[Bell] = []
        """Tasks that wait for an exchange."""
        self._takes_more = True
        self._told = False
        """Whether the access log knows already what the peer broke, as an exchange ended by it."""

    async def run(self) -> None:
        """Serve until the peer leaves, is idle for too long or breaks the protocol.

        That last is raised, unless an exchange ended by it and so told it already.
        """
        failure: ProxyError | None = None
        async with trio.open_nursery() as exchanges:
            with self._until_idle:
                try:
                    await self._serve_all(exchanges)
                except ProxyError as error:
                    failure = error.again()
            self._takes_more = False
            self.let_hands_go()
            exchanges.cancel_scope.deadline = trio.current_time() + self._grace()
        await self._close()
        failure = failure or self.connection.error
        if failure is not None and not self._told:
            raise failure.again()

    def leave(self) -> None:
        """Take no more requests than may be on their way: an idle peer goes soon, a busy one after its last exchange."""
        self._leaving = True
        self.connection.leave()
        self._rest()

    def expire(self) -> None:
        """Refuse the peer that has begun a request and does not finish its head."""
        self.connection.expire()
        self._until_idle.cancel()

    @property
    def idle(self) -> bool:
        """Whether the peer has nothing open."""
        return not self.connection.streams

    def dismiss(self) -> None:
        """Leave the peer that has been idle for too long."""
        self._until_idle.cancel()

    def peer_left(self, *, reset: bool) -> None:
        """Give up the exchange whose peer is gone.

        An end of its stream says so only of a peer that had promised to stay, and not at once: `printf … | nc` still
        listens. With several streams, the connection is read all the time, and its end is seen there.
        """
        codec = self.connection.codec
        if not codec.multiplexed and (reset or codec.reusable):
            self._doubted = True
            doubt = 0.0 if reset else DOUBT_SECONDS
            self._until_idle.deadline = trio.current_time() + doubt

    async def _serve_all(self, exchanges: trio.Nursery) -> None:
        connection = self.connection
        multiplexed = connection.codec.multiplexed
        self._rest()
        while (stream := await connection.accept()) is not None:
            if self._doubted or self._leaving:
                # What was pipelined before the end is no better reason to believe that somebody still listens.
                doubt = DOUBT_SECONDS if self._doubted else float("inf")
                self._until_idle.deadline = trio.current_time() + doubt
            self.progress += 1
            if multiplexed:
                self._due.append(stream)
                if not self._hand_taken():
                    exchanges.start_soon(self._work)
            else:
                # A failure of the only exchange is one of the connection.
                stream.on_failure = exchanges.cancel_scope.cancel
                await self._exchange(stream)
                self._rest()

    def _hand_taken(self) -> bool:
        """Wake one of the tasks that wait for an exchange; False when there is none."""
        while self._hands:
            # A task that was cancelled as it began to wait has left its bell behind.
            if self._hands.pop().ring():
                return True
        return False

    async def _work(self) -> None:
        """Carry one exchange after the other: a task and a scope for each would cost a good part of it."""
        while self._due:
            with trio.CancelScope() as scope:
                while self._due:
                    stream = self._due.popleft()
                    stream.on_failure = scope.cancel
                    await self._exchange(stream)
                    await self._finish()
            if scope.cancelled_caught:
                await self._finish()

    async def _finish(self) -> None:
        """Write what an exchange has left, and wait for another one; there is none when others wait already."""
        await self.connection.flush()
        self._rest()
        if not self._due and self._takes_more and len(self._hands) < IDLE_HANDS:
            bell = Bell()
            self._hands.append(bell)
            await bell.rung()

    def let_hands_go(self) -> None:
        """End the tasks that wait for another exchange."""
        while self._hands:
            self._hands.pop().ring()

    async def _exchange(self, stream: HttpStream) -> None:
        life = Life()
        failure: ProxyError | None = None
        try:
            await self._carry(stream, life)
        except ProxyError as error:
            # The access log has what failed, and the peer gets a reset.
            failure = error
        except BaseException:  # cancelled: nobody is left to answer
            failure = stream.failure or downstream_gone()
            raise
        finally:
            life.end(failure)
            breaks_off = failure is not None and isinstance(failure, Dropped)
            failure = None  # it holds this frame, which must not hold it
            self._told = self._told or (
                stream.failure is not None and stream.failure is self.connection.error
            )
            stream.release()
            breaks_off = breaks_off or stream.truncated
            if breaks_off and not self.connection.codec.multiplexed:
                await self._break_off()

    async def _carry(self, stream: HttpStream, life: Life) -> None:
        """Have the request answered, and the answer sent; beside that, more only where there is more to the request."""
        request = Request(stream.request, stream, life, stream.inform)
        if stream.ended and not request.head.asks_tunnel:
            life.response = response = await self._answer(request)
            await stream.transmit(response.head, response.body)
            return
        async with alongside() as beside:
            life.response = response = await self._answer(replace(request, beside=beside))
            await stream.transmit(response.head, response.body)
            if response.until is not None:
                await response.until.wait()

    async def _break_off(self) -> None:
        """End a response so that it can not pass for a whole one: without a declared length, an end would complete it."""
        with trio.move_on_after(self._limits.close_seconds):
            await reset_when_sent(self.connection.transport)

    def _rest(self) -> None:
        """Begin to wait for a peer that has nothing open; leave it, if that is what we are about to do."""
        if self.connection.streams:
            return
        if self.connection.codec.finished:
            self._until_idle.cancel()
        elif self._leaving or self._doubted:
            patience = LAST_REQUEST_SECONDS if self._leaving else float("inf")
            self._until_idle.deadline = trio.current_time() + patience

    def _grace(self) -> float:
        """How long exchanges may go on when no event will reach them any more."""
        return 0.0 if self.connection.ended else self._limits.drain_seconds

    async def _close(self) -> None:
        with trio.move_on_after(self._limits.close_seconds, shield=True):
            self.connection.leave()
            await self.connection.flush()
            if not self.connection.ended or self.connection.error is not None:
                await self._linger()
        self.connection.close()
        await trio.lowlevel.checkpoint()

    async def _linger(self) -> None:
        """Let the peer read what was written before the connection goes."""
        transport = self.connection.transport
        with contextlib.suppress(
            trio.BrokenResourceError, trio.ClosedResourceError
        ):  # it is gone already
            await transport.send_eof()
            left = LINGER_BYTES
            while left > 0 and (data := await transport.receive_some(self._limits.part_bytes)):
                left -= len(data)
