# SPDX-License-Identifier: Apache-2.0
"""Three operators as processes of the command line, to be killed and started again."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from tests.adapters.inference.parties import free_port

from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.errors import ConsiliumError

ROOT = Path(__file__).parents[3]
KITS = ("operator-0", "operator-1", "dealer")


@final
@dataclass(slots=True)
class Processes:
    """Operators 0 and 1 and the dealer; `folder` holds kits, journals and logs."""

    folder: Path
    stock: int = 6
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def kits(self) -> Path:
        return self.folder / "kits"

    def own(self, party: int) -> Path:
        """Returns the folder of a party's moment, journal and log."""
        place = self.folder / f"party-{party}"
        place.mkdir(exist_ok=True)
        return place

    def start(self, party: int) -> None:
        place = self.own(party)
        command = [sys.executable, "-m", "tests.adapters.inference.fragile_operator", str(place)]
        command += ["inference", "operator", "--party", str(party)]
        command += ["--kit", str(self.kits / KITS[party]), "--stock", str(self.stock)]
        paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
        with (place / "log").open("ab") as log:
            self.running[party] = subprocess.Popen(  # noqa: S603 - our own command line
                command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": paths}
            )

    def kill(self, party: int) -> None:
        self.running[party].kill()
        self.running[party].wait(10)

    def arm(self, party: int, moment: str) -> None:
        (self.own(party) / "moment").write_text(moment)

    def died(self, party: int, seconds: float = 30.0) -> bool:
        return self.running[party].wait(seconds) == -9

    def close(self) -> None:
        for party in self.running:
            self.kill(party)

    def journal(self, party: int) -> list[tuple[str, int]]:
        """Returns (session, number) of every use."""
        file = self.own(party) / "journal"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(line.split()[0], int(line.split()[1])) for line in lines]

    def marked(self, party: int, publication: bytes) -> list[int]:
        """Returns the numbers that are marked as used, as they were written."""
        place = self.kits / KITS[party] / "data" / publication.hex() / "material" / "used"
        return [int(line) for line in place.read_text().split()] if place.exists() else []

    def logs(self) -> str:
        return "".join((self.own(party) / "log").read_text() for party in (0, 1, 2))

    def until_stocked(self, publication: bytes, count: int, seconds: float = 60.0) -> None:
        """Waits until both operators answer and have material."""
        end, last = time.monotonic() + seconds, "none"
        while time.monotonic() < end:
            patient = Patient(self.kits)
            try:
                if patient.images_left(publication.hex()) >= count:
                    return
            except ConsiliumError as error:
                last = str(error)
            finally:
                patient.close()
            time.sleep(0.2)
        raise AssertionError(f"not stocked in {seconds} s: {last}\n{self.logs()}")


def prepared(folder: Path, stock: int = 6) -> Processes:
    """Returns processes that are not started yet, and their kits."""
    first, second = (Address("127.0.0.1", free_port(), free_port()) for _ in (0, 1))
    make_kits(folder / "kits", Operators((first, second)))
    return Processes(folder, stock)
