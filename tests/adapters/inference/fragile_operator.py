# SPDX-License-Identifier: Apache-2.0
"""The command line, but that it writes down which session uses which material, and that it kills
itself with SIGKILL at the moment that a file names.

    python -m tests.adapters.inference.fragile_operator FOLDER inference operator --party 0 ...

FOLDER/moment holds the moment and is removed when it comes; FOLDER/journal has a line for each
use: session and number.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from consilium.adapters.inference import computing
from consilium.adapters.inference.dealing import Dealer
from consilium.adapters.inference.links import Link
from consilium.adapters.inference.material_store import MaterialStore
from consilium.adapters.inference.sessions import Sessions
from consilium.cli.app import main
from consilium.inference.messages import AnswerShare, Exchange
from consilium.inference.operator import (
    Begin,
    FromOperator,
    OperatorEvent,
    OperatorState,
    operator_step,
)

FOLDER: Final = Path(sys.argv[1])


def die(moment: str) -> None:
    """Ends this process as a power cut does, if it is the moment."""
    file = FOLDER / "moment"
    if file.exists() and file.read_text() == moment:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def around(
    holder: type, name: str, *, before: str = "", after: str = "", when: Callable[..., bool]
) -> None:
    """Puts a moment before or after calls of a method."""
    plain = getattr(holder, name)

    def called(*args: object, **more: object) -> object:
        due = when(*args)
        if due:
            die(before)
        made = plain(*args, **more)
        if due:
            die(after)
        return made

    setattr(holder, name, called)


def noted(
    state: OperatorState, event: OperatorEvent
) -> tuple[OperatorState, tuple[FromOperator, ...]]:
    """Writes down which session uses which material, before anything is said."""
    if isinstance(event, Begin):
        lines = [f"{event.share.session.hex()} {one.number}\n" for one in event.receipts]
        with (FOLDER / "journal").open("a") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    return operator_step(state, event)


if __name__ == "__main__":
    always, answers = (lambda *_: True), (lambda _, __, said, *___: isinstance(said, AnswerShare))
    around(MaterialStore, "mark", before="before mark", after="after mark", when=always)
    around(
        Link,
        "say",
        after="mid exchange",
        when=lambda _, said: isinstance(said, Exchange) and said.number == 3,
    )
    around(Sessions, "end", before="before answer", when=answers)
    around(Dealer, "_put", after="between puts", when=lambda _, operator, __: operator == 1)
    vars(computing)["operator_step"] = noted
    sys.argv = ["consilium", *sys.argv[2:]]
    main()
