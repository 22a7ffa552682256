"""`python -m controller`: the same as `fcgi-sweep`."""

from __future__ import annotations

import sys

from controller.cli import main

sys.exit(main())
