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

    def __init__(self) -> None:
        self._master, self.slave = os.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        os.set_blocking(self._master, False)
        self._written = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._master, self._read)

    def _read(self) -> None:
        self._written += os.read(self._master, 65536)

    async def shows(self, text: str) -> None:
        """Waits until the output, without its control sequences, contains `text`."""

        async def shown() -> bool:
            return text in re.sub(
                r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._written.decode(errors="ignore")
            )

        await eventually(shown)

    def close(self) -> None:
        self._loop.remove_reader(self._master)
        os.close(self._master)
        os.close(self.slave)
