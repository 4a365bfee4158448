# SPDX-License-Identifier: Apache-2.0
"""`consilium demo`: the main job with embedded defaults, on the best data that are at hand."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from consilium.adapters.downloads import DemoSource, cache_folder, demo_source
from consilium.adapters.machine import keep_freed_memory
from consilium.cli.display import Display, program, show_summary
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
    folder = _free_folder(out)
    with Display() as display:
        source = demo_source(default_data_folder(), cache_folder(), offline=offline)
        display.say(f"Data: {source.why}")
        display.say("Ten sites train one model five ways; federated-dp is the one to look at.")
        options = Options(
            arms=("all",), seeds=(seed,), data_folder=source.folder, next_command=_next(source)
        )
        trained = train(make_project(source), folder, options, display)
    show_summary(trained, next_command=_next(source))


def make_project(source: DemoSource) -> Project:
    """Returns the demo's project for the data at hand."""
    text = files("consilium.cli").joinpath("demo.toml").read_text(encoding="utf-8")
    splits = read_splits(source.source, source.folder, image_size=None, unit=source.unit)
    return parse_project(
        text,
        {
            "data.source": source.source,
            "data.privacy_unit": source.unit,
            "dp.expected_batch": f"{_SHARE_OF_PATIENTS * splits.train.patient_count:.1f}",
        },
    )


def _next(source: DemoSource) -> str:
    recipe = "pneumonia64" if source.source == "cxr64" else "digits"
    return f"{program()} train recipes/{recipe}.toml --arms all --out runs/{recipe}"


def _free_folder(out: Path) -> Path:
    """Returns `out`, or `out`-2, `out`-3 ... where it is taken: a second run works."""
    names = [out, *(out.with_name(f"{out.name}-{k}") for k in range(2, _MOST_FOLDERS))]
    return next(name for name in names if not name.exists() or not any(name.iterdir()))
