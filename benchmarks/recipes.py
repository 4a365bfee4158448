# SPDX-License-Identifier: Apache-2.0
"""The figures of the recipes: test accuracy, AUC or Dice over seeds, arm by arm, with epsilon.

    python benchmarks/recipes.py pneumonia64 --arms federated-dp,central-dp --seeds 5

Writes benchmarks/out/RECIPE.json with commit, machine and command, and prints a table for
RESULTS.md. Needs the folder CONSILIUM_DATA. Experiments are seeded; coins and noise are not, so
figures move from run to run within the deviations that are printed.
"""

import argparse
import json
import platform
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import consilium
from consilium.sdk import Options
from consilium.web.summary import summary_rows

HERE = Path(__file__).parent


def main() -> None:
    """Trains and writes down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--arms", default="all")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    project = consilium.load_project(HERE.parent / "recipes" / f"{asked.recipe}.toml")
    with tempfile.TemporaryDirectory() as folder:
        options = Options(arms=asked.arms.split(","), seeds=tuple(range(asked.seeds)))
        trained = consilium.train(project, Path(folder) / "run", options)
    rows = [_row(row) for row in summary_rows(trained.results)]
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": f"{platform.machine()}, {processor()}",
        "versions": trained.results[0].versions,
        "test_records": trained.results[0].test.records,
        "noise_multiplier": {one.arm: one.statement.noise_multiplier for one in trained.results},
        "rows": rows,
    }
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    (out / f"{asked.recipe}.json").write_text(json.dumps(facts, indent=2) + "\n")
    for row in rows:
        print(json.dumps(row))


def _row(row: object) -> dict[str, object]:
    names = (
        "arm accuracy auc mcc quadratic_kappa accuracy_interval auc_interval "
        "quadratic_kappa_interval dice iou hausdorff95 dice_interval "
        "iou_interval hausdorff95_interval epsilon_outsider "
        "epsilon_participant delta rounds seconds"
    )
    return {name: _plain(getattr(row, name)) for name in names.split()}


def _plain(value: object) -> object:
    if hasattr(value, "mean"):
        return {"mean": value.mean, "sd": getattr(value, "sd", None)}
    return value


def commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    return found.stdout.strip()


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(named)} x {named[0]}" if named else platform.processor()


if __name__ == "__main__":
    main()
