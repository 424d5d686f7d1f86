"""The terminal driver: Textual's, with every mode that it sets taken back at the end."""

from __future__ import annotations

from textual.drivers.linux_driver import LinuxDriver


class CleanDriver(LinuxDriver):
    """Resets the mouse in pixels as well, which the driver sets but leaves on."""

    def _disable_mouse_support(self) -> None:
        if self._mouse_pixels:
            self.write("\x1b[?1016l")
        super()._disable_mouse_support()
