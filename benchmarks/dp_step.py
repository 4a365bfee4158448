# SPDX-License-Identifier: Apache-2.0
"""What exact per-patient clipping costs: time and memory, beside the step without privacy.

    python benchmarks/dp_step.py [--models resnet18-64 ...] [--repeats 5] [--threads 1]
                                 [--memory kept | fresh]

Every way runs in turn with the non-private step (forward and backward at the same batch), and
what is written down is the ratio of medians of CPU time. Noise and the optimiser's step are not
in it, except in `whole`, which is beside `plain-whole`: forward, backward and the optimiser.
What memory costs is the same for all ways: pages that are freed stay in the process (`kept`, as
in our own programs), or every large value takes fresh ones (`fresh`), which on a machine with slow
page faults costs up to twice the arithmetic and favours whatever holds less at once.
Peak memory is the growth of the process's peak over its size before the first step, each way in a
process of its own. Opacus takes part where it is installed (the extra `bench`). With `--rest`
instead: noise and optimiser beside a step of ResNet-18 at 224 pixels and batch 64, and seconds
to price 30,000 steps. Writes benchmarks/out/dp_step.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.dp.accounting import epsilon, poisson_gaussian
from consilium.dp.clip_kinds import Clip
from consilium.dp.clipping import PatientBatch, clipped_sum, why_not_booked
from consilium.dp.per_patient import Chunk, Objective, looped, vmapped
from consilium.dp.plan import Plan, alone
from consilium.dp.private_training import Goal, Parts, PrivateTraining, plan_for
from consilium.dp.sums import Sums
from consilium.keystream import KEY_BYTES, Keystream
from consilium.learning.models import registry

Loss = Callable[[Tensor, Tensor], Tensor]
HERE = Path(__file__).parent
CLIP = 1.0
WAYS = ("plain", "ours", "vmap", "loop", "opacus", "opacus-ghost", "plain-whole", "whole")

# -- Models ---------------------------------------------------------------------------


class Residual(nn.Module):
    """Two 3x3 convolutions with group norm, and a shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
            nn.GroupNorm(32, filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.GroupNorm(32, filters),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1 and channels == filters
            else nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.GroupNorm(32, filters)
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.branch(maps) + self.shortcut(maps))


def resnet18(channels: int) -> nn.Sequential:
    """ResNet-18 with group norm: 11.2 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
        nn.GroupNorm(32, 64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    width = 64
    for filters, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(width, filters, stride), Residual(filters, filters, 1)]
        width = filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 5))


def double(channels: int, filters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1),
        nn.GroupNorm(8, filters),
        nn.ReLU(),
        nn.Conv2d(filters, filters, 3, padding=1),
        nn.GroupNorm(8, filters),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Four levels of 16 to 128 channels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64, 128)
        self.down = nn.ModuleList(map(double, (1, *widths), widths))
        self.raise_ = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, 2) for width in reversed(widths[:-1])
        )
        self.up = nn.ModuleList(double(2 * width, width) for width in reversed(widths[:-1]))
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        kept: list[Tensor] = []
        for level, down in enumerate(self.down):
            maps = down(F.max_pool2d(maps, 2) if level else maps)
            kept.append(maps)
        kept.pop()
        for larger, up in zip(self.raise_, self.up, strict=True):
            maps = up(torch.cat([larger(maps), kept.pop()], dim=1))
        logits: Tensor = self.out(maps)
        return logits


def classified(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs, labels, reduction="none")


def segmented(outputs: Tensor, labels: Tensor) -> Tensor:
    target = (labels % 2).to(outputs.dtype)[:, None, None, None].expand_as(outputs)
    losses = F.binary_cross_entropy_with_logits(outputs, target, reduction="none")
    return losses.mean((1, 2, 3))


def registered(name: str, shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    return lambda: registry.build(name, shape=shape, classes=5, seed=0)


ROWS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "squeezenet-224": (registered("squeezenet", (3, 224, 224)), (3, 224, 224), 16),
    "resnet18-224": (lambda: resnet18(3), (3, 224, 224), 16),
    "resnet18-64": (lambda: resnet18(1), (1, 64, 64), 64),
    "unet-128": (UNet, (1, 128, 128), 16),
    "small-cnn-28": (registered("small-cnn", (1, 28, 28)), (1, 28, 28), 64),
    "nf-resnet-64": (registered("nf-resnet", (1, 64, 64)), (1, 64, 64), 64),
    "logistic": (registered("logistic", (1, 28, 28)), (1, 28, 28), 64),
}

# -- Ways -----------------------------------------------------------------------------


def step_of(way: str, row: str) -> Callable[[], object]:
    """Returns one step of `way`: a function without arguments."""
    torch.manual_seed(0)
    build, shape, count = ROWS[row]
    model, loss = build(), segmented if row.startswith("unet") else classified
    inputs, labels = torch.randn(count, *shape), torch.randint(0, 5, (count,))
    batch = PatientBatch(inputs=inputs, labels=labels, patients=torch.arange(count))
    chunk = Chunk(inputs[:, None], labels[:, None], torch.ones(count, 1))
    objective = Objective(model, loss)

    def plain() -> object:
        model.zero_grad()
        loss(model(inputs), labels).mean().backward()
        return None

    def unbooked(way: Callable[..., None], **settings: int) -> Callable[[], object]:
        def step() -> object:
            sums = Sums(objective.trained())
            way(objective, chunk, sums, clip=Clip(CLIP), **settings)
            return sums.bounded(CLIP * count, torch.float32)

        return step

    return {
        "plain": lambda: plain,
        "ours": lambda: lambda: clipped_sum(model, loss, batch, l2_clip_norm=CLIP),
        "vmap": lambda: unbooked(vmapped),
        "loop": lambda: unbooked(looped, records=1),
        "opacus": lambda: opacus(model, loss, inputs, labels),
        "opacus-ghost": lambda: opacus_ghost(model, loss, inputs, labels),
        "plain-whole": lambda: plain_whole(model, plain),
        "whole": lambda: whole(model, loss, batch),
    }[way]()


def plain_whole(model: nn.Module, plain: Callable[[], object]) -> Callable[[], object]:
    """Returns forward, backward and the step of the optimiser."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)

    def step() -> object:
        plain()
        optimiser.step()
        return None

    return step


def whole(model: nn.Module, loss: Loss, batch: PatientBatch) -> Callable[[], object]:
    """Returns a private step: draw, clip, noise, divide, move; nearly every patient is drawn."""
    count = len(batch.labels)
    goal = Goal(epsilon=50.0, delta=1e-3, expected_batch=count * (1 - 1e-9), steps=1000)
    plan = plan_for(model, batch, goal)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)
    parts = Parts(model=model, loss=loss, records=batch, plan=plan, optimiser=optimiser)
    return PrivateTraining(parts).step


class Criterion(nn.Module):
    """A loss as Opacus wants it: with a reduction that it may change."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss, self.reduction = loss, "mean"

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        losses = self.loss(outputs, labels)
        return losses if self.reduction == "none" else losses.mean()


SETTINGS = {"noise_multiplier": 0.0, "max_grad_norm": CLIP, "expected_batch_size": 1}


def opacus(model: nn.Module, loss: Loss, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    """Returns the step of Opacus by hooks."""
    from opacus import GradSampleModule  # noqa: PLC0415 - not a dependency
    from opacus.optimizers import DPOptimizer  # noqa: PLC0415 - not a dependency

    hooked = GradSampleModule(model)
    optimiser = DPOptimizer(torch.optim.SGD(hooked.parameters(), lr=0.0), **SETTINGS)

    def step() -> object:
        optimiser.zero_grad()
        loss(hooked(inputs), labels).mean().backward()
        optimiser.pre_step()
        return None

    return step


def opacus_ghost(
    model: nn.Module, loss: Loss, inputs: Tensor, labels: Tensor
) -> Callable[[], object]:
    """Returns the step of Opacus by ghost norms and a second backward pass."""
    from opacus.grad_sample import (  # noqa: PLC0415 - not a dependency
        GradSampleModuleFastGradientClipping,
    )
    from opacus.optimizers import (  # noqa: PLC0415 - not a dependency
        DPOptimizerFastGradientClipping,
    )
    from opacus.utils.fast_gradient_clipping_utils import (  # noqa: PLC0415 - not a dependency
        DPLossFastGradientClipping,
    )

    hooked = GradSampleModuleFastGradientClipping(
        model, max_grad_norm=CLIP, use_ghost_clipping=True
    )
    plain = torch.optim.SGD(hooked.parameters(), lr=0.0)
    optimiser = DPOptimizerFastGradientClipping(plain, **SETTINGS)
    criterion = DPLossFastGradientClipping(hooked, optimiser, Criterion(loss))

    def step() -> object:
        optimiser.zero_grad()
        criterion(hooked(inputs), labels).backward()
        optimiser.pre_step()
        return None

    return step


# -- Measures -------------------------------------------------------------------------


def seconds(row: str, ways: list[str], repeats: int) -> dict[str, float]:
    """Returns the median CPU time of each way, its runs in turn with all others'."""
    found = medians([step_of(way, row) for way in ways], repeats)
    return dict(zip(ways, found, strict=True))


def peak_growth(row: str, way: str) -> float:
    """Returns MiB by which three steps raise the peak of a process of their own."""
    command = [sys.executable, __file__, "--peak", row, way]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603


def print_peak(row: str, way: str) -> None:
    torch.set_num_threads(1)
    step = step_of(way, row)
    before = peak_kib()
    for _ in range(3):
        step()
    print((peak_kib() - before) / 1024)


def peak_kib() -> int:
    """Returns the peak of this process since it began; `getrusage` knows its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def measured(row: str, ways: list[str], repeats: int) -> dict[str, object]:
    build, shape, count = ROWS[row]
    batch = PatientBatch(
        inputs=torch.zeros(1, *shape),
        labels=torch.zeros(1, dtype=torch.int64),
        patients=torch.zeros(1, dtype=torch.int64),
    )
    loss = segmented if row.startswith("unet") else classified
    times = seconds(row, ways, repeats)
    peaks = {way: peak_growth(row, way) for way in ways}
    return {
        "model": row,
        "input": shape,
        "batch": count,
        "falls_back": why_not_booked(build(), loss, batch),
        "cpu_seconds": {way: round(value, 4) for way, value in times.items()},
        "time_ratio": {way: round(value / beside(way, times), 2) for way, value in times.items()},
        "peak_mib": {way: round(value, 1) for way, value in peaks.items()},
        "peak_ratio": {way: round(value / peaks["plain"], 2) for way, value in peaks.items()},
    }


def rest(repeats: int) -> dict[str, object]:
    """Returns what a private step does besides clipping, and what pricing a long training takes."""
    torch.manual_seed(0)
    model = resnet18(3)
    inputs, labels = torch.randn(64, 3, 224, 224), torch.randint(0, 5, (64,))
    dimension = sum(p.numel() for p in model.parameters())
    plan = Plan(
        sampling_probability=0.01,
        patients=50_000,
        l2_clip_norm=CLIP,
        noise_multiplier=1.0,
        steps=1000,
        delta=1e-6,
        dimension=dimension,
        shares=alone(1),
        bits=32,
    )
    lattice = plan.lattice(plan.shares)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    total = torch.randn(dimension).numpy()
    parts = [p.numel() for p in model.parameters()]

    def noise_and_step() -> None:
        noised = lattice.decode(lattice.encode(total, Keystream(os.urandom(KEY_BYTES))))
        for parameter, part in zip(
            model.parameters(), torch.from_numpy(noised).split(parts), strict=True
        ):
            parameter.grad = part.view_as(parameter)
        optimiser.step()

    def plain() -> None:
        model.zero_grad()
        classified(model(inputs), labels).mean().backward()

    added, step = medians([noise_and_step, plain], repeats)
    start = time.process_time()
    price = epsilon(
        poisson_gaussian(sampling_probability=0.01, noise_multiplier=1.0, steps=30_000), 1e-6, "pld"
    )
    return {
        "coordinates": dimension,
        "noise_and_optimiser_seconds": round(added, 4),
        "plain_step_seconds": round(step, 4),
        "share": round(added / step, 4),
        "epsilon_of_30000_steps": price,
        "pricing_seconds": round(time.process_time() - start, 2),
    }


def medians(steps: list[Callable[[], object]], repeats: int) -> list[float]:
    """Returns the median CPU time of each step, their runs in turn."""
    times: list[list[float]] = [[] for _ in steps]
    for step in steps:
        step()
    for _ in range(repeats):
        for step, found in zip(steps, times, strict=True):
            start = time.process_time()
            step()
            found.append(time.process_time() - start)
    return [statistics.median(found) for found in times]


def beside(way: str, times: dict[str, float]) -> float:
    """Returns the seconds of the non-private step that does as much as `way`."""
    return times["plain-whole" if way == "whole" else "plain"]


def again_with(memory: str) -> None:
    """Starts this program again with the allocator told; it can only be told at a start."""
    threshold = str(2**17 if memory == "fresh" else 2**35)
    told = {f"MALLOC_{name}_THRESHOLD_": threshold for name in ("MMAP", "TRIM")}
    if os.environ.get("MALLOC_MMAP_THRESHOLD_") != threshold:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **told})  # noqa: S606


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", default="kept", choices=("kept", "fresh"))
    parser.add_argument("--rest", action="store_true")
    parser.add_argument("--peak", nargs=2, metavar=("MODEL", "WAY"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print_peak(*asked.peak)
        return
    again_with(asked.memory)
    torch.set_num_threads(asked.threads)
    warnings.filterwarnings("ignore", module="opacus|torch.nn.modules.module")  # Opacus' own
    ways = list(dict.fromkeys(["plain", *asked.ways]))
    if "whole" in ways:
        ways = list(dict.fromkeys([*ways, "plain-whole"]))
    if not find_spec("opacus"):
        ways = [way for way in ways if not way.startswith("opacus")]
    rows = []
    if asked.rest:
        rows.append(rest(asked.repeats))
        print(json.dumps(rows[-1]))
    for row in [] if asked.rest else asked.models:
        rows.append(measured(row, ways, asked.repeats))
        print(json.dumps(rows[-1]), flush=True)
    facts = {
        "threads": asked.threads,
        "memory": asked.memory,
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    (out / "dp_step.json").write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
