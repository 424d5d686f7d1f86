"""The terminal driver: Textual's, quiet while nobody types, every mode taken back at the end."""

from __future__ import annotations

import contextlib
import os
import selectors
from codecs import getincrementaldecoder
from typing import Any

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

_TURN_S = 0.1
_TURNS = 10
_READ_BYTES = 4096


class CleanDriver(LinuxDriver):
    """Waits for input without a timeout, and resets the mouse in pixels as well.

    Textual's own wakes ten times a second, a third of what an idle dashboard costs, and leaves the
    mouse in pixels on, which it sets.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.written_bytes = 0
        """What was given to the terminal so far."""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)

    def write(self, data: str) -> None:
        """Send it to the terminal, and count it."""
        # That it is ASCII, Python knows without a look at it.
        self.written_bytes += len(data) if data.isascii() else len(data.encode())
        super().write(data)

    def run_input_thread(self) -> None:
        """Keys and answers of the terminal become events, until ``disable_input``."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, _READ_BYTES)
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")().decode
        quiet_turns = 0
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                # A lone Esc is told from the start of a sequence by time: turns after each input.
                ready = selector.select(_TURN_S if quiet_turns < _TURNS else None)
                quiet_turns = 0 if ready else quiet_turns + 1
                for key, _ in ready:
                    if key.fd == self._wake_read:
                        # The byte stays: it wakes again until the end is told, however late.
                        self.exit_event.wait(_TURN_S)
                    elif data := os.read(self.fileno, _READ_BYTES):
                        for event in parser.feed(decode(data)):
                            self.process_message(event)
                    else:
                        # At its end it would be ready for ever.
                        selector.unregister(self.fileno)
                for event in parser.tick():
                    self.process_message(event)
        with contextlib.suppress(EOFError, ParseError):
            list(parser.feed(""))

    def disable_input(self) -> None:
        """End the thread that reads."""
        if self._key_thread is not None and self._key_thread.is_alive():
            os.write(self._wake_write, b"x")
        super().disable_input()

    def close(self) -> None:
        """Let go of what the driver holds."""
        super().close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    @property
    def has_mouse(self) -> bool:
        """Whether the terminal reports the mouse."""
        return self._mouse

    def take_mouse(self, wanted: bool) -> bool:
        """Ask the terminal for the mouse, or leave it to it; gives what holds then."""
        if wanted != self._mouse:
            # Both do nothing where the mouse is off.
            if wanted:
                self._mouse = True
                self._enable_mouse_support()
                if self._mouse_pixels:
                    self._enable_mouse_pixels()
            else:
                self._disable_mouse_support()
                self._mouse = False
        return self._mouse

    def _disable_mouse_support(self) -> None:
        if self._mouse_pixels:
            self.write("\x1b[?1016l")
        super()._disable_mouse_support()
