# SPDX-License-Identifier: Apache-2.0
"""`consilium export`: a trained model as one ONNX file with its card."""

from pathlib import Path
from typing import Final

import msgspec
import typer

from consilium.adapters.finished_models import load_finished
from consilium.adapters.model_card import card_path
from consilium.adapters.picture_kinds import kind_of
from consilium.cli.extras import imported
from consilium.data.framing import Frame
from consilium.sdk import default_data_folder

_EXTRA: Final = "export"


def export(
    source: Path,
    out: Path,
    *,
    arm: str,
    kind: str | None,
    frame: Frame | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Exports, and says what was written.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    exporting = imported("consilium.adapters.onnx_export", _EXTRA)
    finished = load_finished(source, arm=arm)
    folder = data or default_data_folder()
    known = kind_of(finished.project.data.source, kind, folder)
    wishes = exporting.Wishes(kind=known, frame=frame, data=folder)
    card = exporting.export_model(finished, out, wishes)
    if as_json:
        typer.echo(msgspec.json.encode(card).decode())
        return
    typer.echo(f"{out}: {card.size / 1e6:.2f} MB, {card.network}, opset {card.opset}")
    typer.echo(f"{card_path(out)}: classes {', '.join(card.classes)}")
    typer.echo(f"sha256 {card.sha256}")
    typer.echo(
        f"equal to PyTorch within {card.checked.tolerance:g} on {card.checked.pictures} made-up "
        "pictures"
    )
    typer.echo(_privacy(card.privacy.guarantees, private=card.privacy.private))
    typer.echo(f"next: consilium phone serve {out}")


def _privacy(guarantees: tuple[object, ...], *, private: bool) -> str:
    if not private:
        return "NOT private: this arm makes no promise to patients; do not hand this file out"
    worst = max(getattr(one, "epsilon", 0.0) for one in guarantees)
    return f"private: epsilon {worst:.4f} in the worst view; the card has the whole statement"
