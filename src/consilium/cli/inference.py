# SPDX-License-Identifier: Apache-2.0
"""The commands of encrypted inference: options and help. What they do is imported when they run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from consilium.cli import model as models
from consilium.cli.inferring import (
    CompareRequest,
    CostRequest,
    InferRequest,
    OperatorRequest,
    Pictures,
    PublishRequest,
    imported,
)

inference = typer.Typer(
    name="inference",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Operators that compute on shares of images and models.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Kit = Annotated[Path, typer.Option(help="Folder of this party, made by setup.")]
Ring = Annotated[int, typer.Option(help="Bits of the ring: 32, 40, 48, 56 or 64.")]
ShapeOption = Annotated[
    str | None,
    typer.Option(help="CHANNELS,HEIGHT,WIDTH where the file does not say it.", metavar="SHAPE"),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(help="Folder of 64 or more pictures like those to come.", metavar="DIR"),
]


@inference.command()
def setup(
    folder: Annotated[Path, typer.Argument(help="New folder of kits.")],
    first: Annotated[str, typer.Option(help="HOST:LINK:HTTPS of operator 0.")],
    second: Annotated[str, typer.Option(help="HOST:LINK:HTTPS of operator 1.")],
) -> None:
    """Makes a kit for each operator, the dealer and the owner, and the patient's public folder.

    Example: consilium inference setup kits --first a.org:7100:7443 --second b.org:7100:7443
    """
    imported().run_setup(folder, first, second)


@inference.command()
def operator(
    party: Annotated[int, typer.Option(help="0 and 1 compute; 2 deals.", min=0, max=2)],
    kit: Kit,
    data: Annotated[
        Path | None, typer.Option(help="Where shares and material are. Default in the kit.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="A web page that may ask from browsers; repeat.")
    ] = None,
    stock: Annotated[int, typer.Option(help="Images that the dealer keeps ahead.")] = 32,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Of the HTTPS end, PEM, that browsers trust. Default the kit's."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Runs one operator until it is stopped.

    Example: consilium inference operator --party 0 --kit kits/operator-0
    """
    request = OperatorRequest(
        party=party,
        kit=kit,
        data=data,
        origins=tuple(origin or ()),
        stock=stock,
        certificate=certificate,
        key=key,
    )
    imported().run_operator(request)


@inference.command()
def publish(
    model: Annotated[Path, typer.Argument(help="Folder of `consilium train`, or its model.")],
    kit: Kit,
    calibrate: Calibrate = None,
    ring: Ring = 40,
    kind: Annotated[
        str | None,
        typer.Option(help="Of picture: chest-x-ray, fundus, or none. Default by the source."),
    ] = None,
    frame: Annotated[
        Literal["pad", "squash", "crop"] | None,
        typer.Option(help="How pictures become squares, if the source does not say it."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Datasets. Default $CONSILIUM_DATA.")] = None,
    permission: models.Permission = None,
    key: models.Key = None,
    json: Json = False,
) -> None:
    """Shares a model among the operators, after saying what an answer will cost.

    Example: consilium inference publish runs/x --kit kits/owner
    """
    request = PublishRequest(
        model=model,
        kit=kit,
        calibrate=calibrate,
        ring=ring,
        pictures=Pictures(kind=kind, frame=frame, data=data),
        signing=models.signing(permission, key),
        json=json,
    )
    imported().run_publish(request)


@inference.command()
def revoke(
    publication: Annotated[str, typer.Argument(help="As publish printed it.")], kit: Kit
) -> None:
    """Takes a model back: the operators answer for it no more.

    Example: consilium inference revoke 3f... --kit kits/owner
    """
    imported().run_revoke(publication, kit)


@inference.command()
def cost(
    model: Annotated[str, typer.Argument(help="Folder of a run, or a model's name.")],
    shape: ShapeOption = None,
    calibrate: Calibrate = None,
    ring: Ring = 40,
    json: Json = False,
) -> None:
    """Says what one answer costs: comparisons, bytes, rounds, seconds on LAN and WAN.

    Example: consilium inference cost squeezenet --shape 3,224,224
    """
    imported().run_cost(
        CostRequest(model=model, shape=shape, calibrate=calibrate, ring=ring, json=json)
    )


@inference.command()
def compare(
    model: Annotated[Path, typer.Argument(help="Folder of `consilium train`, or its model.")],
    images: Annotated[Path, typer.Argument(help="Folder of pictures.", metavar="DIR")],
    calibrate: Calibrate = None,
    ring: Ring = 40,
    operators: Annotated[
        Path | None, typer.Option(help="Also ask these operators about it.", metavar="DIR")
    ] = None,
    spu_python: Annotated[
        Path | None,
        typer.Option(
            help="Also ask SPU, by an interpreter that has it.", envvar="CONSILIUM_SPU_PYTHON"
        ),
    ] = None,
    spu_protocol: Annotated[
        str, typer.Option(help="aby3: three nodes; cheetah: two, slower by far.")
    ] = "aby3",
    json: Json = False,
) -> None:
    """Asks several runtimes about the same pictures: labels, logits, seconds, bytes. Hides nothing.

    Example: consilium inference compare runs/x pictures --spu-python spu/bin/python
    """
    request = CompareRequest(
        model=model,
        images=images,
        calibrate=calibrate,
        ring=ring,
        operators=operators,
        spu_python=spu_python,
        spu_protocol=spu_protocol,
        json=json,
    )
    imported("consilium.cli.comparing").run_compare(request)


def infer(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.")],
    operators: Annotated[
        Path, typer.Option(help="Public folder: operators.json and authority.pem.", metavar="DIR")
    ],
    mode: Annotated[str, typer.Option(help="encrypted; nothing else is done instead.")] = (
        "encrypted"
    ),
    model: Annotated[
        str | None, typer.Option(help="Name or publication, where there are several.")
    ] = None,
    publisher: Annotated[
        str | None, typer.Option(help="Six words of whom you expect to have published it.")
    ] = None,
    json: Json = False,
) -> None:
    """Asks operators who see neither the image nor the answer; prints class names.

    Example: consilium infer scan.png --operators kits --mode encrypted --json
    """
    imported().run_infer(
        InferRequest(
            images=tuple(images),
            operators=operators,
            mode=mode,
            model=model,
            publisher=publisher,
            json=json,
        )
    )
