# SPDX-License-Identifier: Apache-2.0
"""What scripts of peers share; only the standard library, for their own environments."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def await_all(started: Sequence[subprocess.Popen[bytes]], folder: Path, limit: float) -> None:
    """Waits for every process; ends this one with the words of the first that failed (logK)."""
    end = time.monotonic() + limit
    try:
        while any(one.poll() is None for one in started):
            failed = [k for k, one in enumerate(started) if one.poll() not in (None, 0)]
            if failed:
                sys.exit((folder / f"log{failed[0]}").read_text()[-2000:])
            if time.monotonic() > end:
                print(f"no answer within {limit:.0f} s", file=sys.stderr)
                sys.exit(124)
            time.sleep(0.1)
    finally:
        for one in started:
            one.kill()
