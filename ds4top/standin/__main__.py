"""`python -m ds4top.standin [ds4-server options]`: the stand-in as a process of its own."""

from __future__ import annotations

import os
import sys

from ds4top.standin import proc

proc.set_comm()

from ds4top.standin.server import StopFlag  # noqa: E402 - the name must be set before threads

_STOP = StopFlag()
_STOP.install()

from ds4top.standin.run import run  # noqa: E402 - signals count from the first moment on

if __name__ == "__main__":
    status = run(sys.argv[1:], os.environ, _STOP)
    # A worker that was told to hang must not hold up the end.
    os._exit(status)
