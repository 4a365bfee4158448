# SPDX-License-Identifier: Apache-2.0
"""The commands of a data steward: options and help. What they do is imported when they run."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

data = typer.Typer(
    name="data", no_args_is_help=True, rich_markup_mode=None, help="Makes datasets of files."
)


@data.callback()
def _several() -> None:
    """Keeps the name of a command that is alone in its group."""


@data.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A folder, a zip, or a table (.csv, .parquet).")],
    out: Annotated[Path, typer.Option(help="The dataset, a new folder.", metavar="DATASET")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Table with a row a file. Without it: a folder for each class."),
    ] = None,
    patient_id: Annotated[
        str | None,
        typer.Option(help="Its column of patients. Default DICOM's PatientID.", metavar="COLUMN"),
    ] = None,
    label: Annotated[str, typer.Option(help="Its column of classes.", metavar="COLUMN")] = "label",
    match: Annotated[
        Literal[
            "file",
            "PatientID",
            "StudyInstanceUID",
            "SeriesInstanceUID",
            "SOPInstanceUID",
            "AccessionNumber",
        ],
        typer.Option(help="Its column that finds the file: its name, or a DICOM tag."),
    ] = "file",
    classes: Annotated[
        str | None, typer.Option(help="a,b,c in the order that all hospitals use.")
    ] = None,
    label_maps: Annotated[
        Path | None,
        typer.Option(help="Folder of NIfTI of the same names: learn to segment.", metavar="DIR"),
    ] = None,
    unit: Annotated[
        Literal["patient", "record"],
        typer.Option(help="record: nobody knows the patients; the guarantee is per file."),
    ] = "patient",
    size: Annotated[int, typer.Option(help="Pixels on a side.")] = 224,
    colour: Annotated[Literal["grey", "rgb"], typer.Option(help="Of every picture.")] = "grey",
    window: Annotated[
        str | None,
        typer.Option(help="BLACK,WHITE in the unit of the files; default each file's own."),
    ] = None,
    plane: Annotated[
        Literal["axial", "coronal", "sagittal"], typer.Option(help="How volumes are cut.")
    ] = "axial",
    depth: Annotated[
        int | None, typer.Option(help="Keep volumes whole, with so many planes.")
    ] = None,
    validation_share: Annotated[float, typer.Option(help="Of the patients.")] = 0.15,
    test_share: Annotated[float, typer.Option(help="Of the patients.")] = 0.15,
    dates: Annotated[
        Literal["drop", "shift"], typer.Option(help="shift: by days that are each patient's own.")
    ] = "drop",
    confirm_no_burned_in_text: Annotated[
        bool,
        typer.Option(
            "--confirm-no-burned-in-text",
            help="You looked: no picture shows a name or a number of a person.",
        ),
    ] = False,
    confirm_no_faces: Annotated[
        bool,
        typer.Option(
            "--confirm-no-faces", help="You looked: no face can be rendered from these slices."
        ),
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(help="File of the site's secret, made if absent. Default in ~/.config."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, write only the steward's report.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Makes a de-identified dataset of a hospital's files. Run it again to go on after a stop.

    Example: consilium data import export/ --labels labels.csv --patient-id person --out chest
    """
    work = import_module("consilium.cli.importing")
    request = work.Request(
        source=source,
        out=out,
        labels=labels,
        patient_id=patient_id,
        label=None if label_maps is not None else label,
        match=match,
        classes=tuple(classes.split(",")) if classes else (),
        label_maps=label_maps,
        unit=unit,
        size=size,
        colour=colour,
        window=window,
        plane=plane,
        depth=depth,
        validation_share=validation_share,
        test_share=test_share,
        dates=dates,
        no_burned_in_text=confirm_no_burned_in_text,
        no_faces=confirm_no_faces,
        key=key,
    )
    work.import_data(request, dry_run=dry_run, as_json=json)
