"""Reads the output of a command on a terminal."""

import asyncio
import fcntl
import os
import re
import struct
import termios

from support.stack import eventually


class Terminal:
    """Keeps the output of a command on a pseudo-terminal.

    The output is read immediately: if nobody reads a terminal, it blocks the command, even when the
    command is about to exit.
    """

    def __init__(self, *, rows: int = 40, columns: int = 160) -> None:
        self._master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_blocking(self._master, False)
        self._written = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._read)

    def _read(self) -> None:
        self._written += os.read(self._master, 65536)

    async def shows(self, text: str) -> None:
        """Waits until the output, without its control sequences, contains `text`."""

        async def shown() -> bool:
            return text in self.text()

        await eventually(shown)

    def text(self) -> str:
        """Returns the output so far without its control sequences."""
        return _plain(self._written.decode(errors="ignore"))

    def written(self) -> str:
        """Returns the output so far, with its control sequences."""
        return self._written.decode(errors="surrogateescape")

    async def screen(self) -> list[str]:
        """Returns the lines of a screen that a full-screen command has written completely."""
        found: list[str] = []

        async def complete() -> bool:
            parts = self._written.decode(errors="ignore").split("\x1b[H")
            found[:] = [text for part in parts[1:-1] if (text := _plain(part).rstrip())]
            return bool(found)

        await eventually(complete)
        return found[-1].splitlines()

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self.slave)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
