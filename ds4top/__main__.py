"""``python -m ds4top``."""

import sys

from ds4top.cli import main

sys.exit(main())
