# SPDX-License-Identifier: Apache-2.0
"""Libraries that read files quote what they dislike in warnings and logs, names included."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOGGERS: Final = ("pydicom", "nibabel.global", "PIL", "pylibjpeg", "openjpeg", "libjpeg")
_ABOVE_ALL: Final = logging.CRITICAL + 1


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps the libraries' warnings and log lines from being shown or kept; may be nested.

    Not here: threads. Warning filters belong to the process; one thread reads.
    """
    if logging.getLogger(_LOGGERS[0]).level == _ABOVE_ALL:
        yield
        return
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(_ABOVE_ALL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
