"""The smallest way for one task to wait until another has news for it."""

import outcome
import trio


class Bell:
    """Wakes the one task that waits for it. A ring that nobody waits for is not remembered."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    async def rung(self) -> None:
        """Wait for the next ring."""
        if self._task is not None:
            raise trio.BusyResourceError("another task waits for this already")
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def ring(self) -> bool:
        """Wake the task that waits; say whether there was one."""
        if self._task is None:
            return False
        trio.lowlevel.reschedule(self._task)
        self._task = None
        return True

    def fail(self, error: Exception) -> None:
        """Wake the task that waits, if one does, with `error`."""
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, outcome.Error(error))
            self._task = None

    def _leave(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
