# SPDX-License-Identifier: Apache-2.0
"""`consilium demo`: the main job with embedded defaults, on the best data that are at hand."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Final

import typer

from consilium.adapters.downloads import DemoSource, cache_folder, demo_source
from consilium.adapters.machine import keep_freed_memory
from consilium.cli.display import Display, program, show_summary
from consilium.data.records import Splits
from consilium.data.sources import read_splits
from consilium.federation.project import Project, parse_project
from consilium.sdk import Options, default_data_folder, train

_SHARE_OF_PATIENTS: Final = 0.1  # expected in a step
_MOST_FOLDERS: Final = 1000


def run_demo(out: Path, *, offline: bool, seed: int) -> None:
    """Trains the five arms and shows the table; ends with the next command to try.

    Raises:
        ConsiliumError: The data at hand cannot be used.
    """
    keep_freed_memory()
    folder = free_folder(out)
    with Display() as display:
        source = demo_source(default_data_folder(), cache_folder(), offline=offline)
        display.say(f"Data: {source.why}")
        display.say("Ten sites train one model five ways; federated-dp is the one to look at.")
        options = Options(
            arms=("all",), seeds=(seed,), data_folder=source.folder, next_command=_next(source)
        )
        project = make_project(source, read_source(source))
        trained = train(project, folder, options, display)
    show_summary(trained, next_command=_next(source))
    typer.echo(f"Decide as a data steward, in a browser: {program()} demo --serve")


def make_project(
    source: DemoSource, splits: Splits, changes: Mapping[str, str] | None = None
) -> Project:
    """Returns the demo's project for the data at hand."""
    text = files("consilium.cli").joinpath("demo.toml").read_text(encoding="utf-8")
    at_hand = {
        "data.source": source.source,
        "data.privacy_unit": source.unit,
        "dp.expected_batch": f"{_SHARE_OF_PATIENTS * splits.train.patient_count:.1f}",
    }
    return parse_project(text, {**at_hand, **(changes or {})})


def read_source(source: DemoSource) -> Splits:
    """Returns the data at hand."""
    return read_splits(source.source, source.folder, image_size=None, unit=source.unit)


def _next(source: DemoSource) -> str:
    recipe = "pneumonia64" if source.source == "cxr64" else "digits"
    return f"{program()} train recipes/{recipe}.toml --arms all --out runs/{recipe}"


def free_folder(out: Path) -> Path:
    """Returns `out`, or `out`-2, `out`-3 ... where it is taken: a second run works."""
    names = [out, *(out.with_name(f"{out.name}-{k}") for k in range(2, _MOST_FOLDERS))]
    return next(name for name in names if not name.exists() or not any(name.iterdir()))
