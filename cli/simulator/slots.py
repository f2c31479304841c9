"""Lets calls wait until a slot is free and their model is loaded, as local servers do."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

_UNLOAD_S = 0.1  # time from the moment at which a load is aborted to the start of the next load

Leave = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Waiting:
    """Describes a call that waits. `begin` is called at the end of the wait."""

    begin: Callable[[], None]
    load_s: float = 0
    has_begun: bool = False
    has_left: bool = False


class Slots:
    """Limits how many calls run at a time. Further calls wait in the order in which they came."""

    def __init__(self) -> None:
        self._size = 1
        self._busy = 0
        self._is_filling = False
        self._waiting: deque[_Waiting] = deque()

    def resize(self, size: int | None) -> None:
        """Changes the number of slots. Without a number, all waiting calls begin."""
        self._size = size or sys.maxsize
        self._fill()

    def enter(self, begin: Callable[[], None], leaves: list[Leave]) -> None:
        """Calls `begin` once a slot is free.

        Appends to `leaves` a function that ends the wait, or frees the slot.
        """
        call = _Waiting(begin)
        leaves.append(partial(self._leave, call))
        self._waiting.append(call)
        self._fill()

    def _leave(self, call: _Waiting) -> None:
        if call.has_left:
            return
        call.has_left = True
        self._busy -= call.has_begun
        self._fill()

    def _fill(self) -> None:
        if self._is_filling:  # `begin` may end the call immediately
            return
        self._is_filling = True
        while self._waiting and self._busy < self._size:
            call = self._waiting.popleft()
            if not call.has_left:
                call.has_begun = True
                self._busy += 1
                call.begin()
        self._is_filling = False


@dataclass(slots=True, eq=False)
class _Load:
    """Describes a model that is being loaded.

    owner: the first of the waiting calls. If its client disconnects, the load is aborted.
    """

    waiting: deque[_Waiting] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None
    owner: _Waiting | None = None


class Loads:
    """Loads each model at its first call. If this call's client disconnects, the load is aborted.

    Then the next waiting call loads the model again, from the beginning.
    """

    def __init__(self) -> None:
        self.aborted = 0
        self._loaded: set[str] = set()
        self._loads: dict[str, _Load] = {}

    def enter(
        self, model: str, seconds: float, begin: Callable[[], None], leaves: list[Leave]
    ) -> None:
        """Calls `begin` once the model is loaded. Appends to `leaves` a function to end the wait.

        seconds: time that the load takes if this call starts the load.
        """
        if model in self._loaded:
            begin()
            return
        call = _Waiting(begin, seconds)
        load = self._loads.setdefault(model, _Load())
        load.waiting.append(call)
        leaves.append(partial(self._leave, model, load, call))
        if load.timer is None:
            self._start(model, load)

    def reset(self) -> None:
        """Unloads all models. A model that is being loaded continues to load."""
        self.aborted = 0
        self._loaded.clear()

    def _start(self, model: str, load: _Load) -> None:
        while load.waiting and load.waiting[0].has_left:
            load.waiting.popleft()
        if not load.waiting:
            del self._loads[model]
            return
        load.owner = load.waiting[0]
        loop = asyncio.get_running_loop()
        load.timer = loop.call_later(load.owner.load_s, self._finish, model, load)

    def _finish(self, model: str, load: _Load) -> None:
        self._loaded.add(model)
        del self._loads[model]
        for call in load.waiting:
            if not call.has_left:
                call.has_begun = True
                call.begin()

    def _leave(self, model: str, load: _Load, call: _Waiting) -> None:
        if call.has_begun or call.has_left:
            return
        call.has_left = True
        if load.owner is call and load.timer:
            self.aborted += 1
            load.owner = None
            load.timer.cancel()
            load.timer = asyncio.get_running_loop().call_later(_UNLOAD_S, self._start, model, load)
