"""Exit codes (sysexits.h, and the control commands' own)."""

FAILED = 1
REFUSED = 2
NO_SERVER = 3
USAGE = 64
CRASH = 70
CONFIG = 78
