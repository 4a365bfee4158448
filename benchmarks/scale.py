# SPDX-License-Identifier: Apache-2.0
"""What a round costs with many sites: measured up to some, by a model of what was measured beyond.

    for n in 4 8 16 30; do python benchmarks/engine.py --sites $n --repeats 9; done
    python benchmarks/scale.py

A round is the slowest site's computing, then its part of the secure sum, then two legs and the
coordinator's part. The legs are those of `engine.py` (benchmarks/out/engine-N.json, all parties
on one machine, so too slow), fitted as  seconds = a + b n + c n bytes.  The parts of the secure
sum are measured here with 10 to 200 sites and fitted as power laws. Prints a table and writes
benchmarks/plots/scale.svg; what is beyond the measured points is drawn hollow.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from secagg import Session, commit, make_job, noised

HERE = Path(__file__).parent
LENGTHS = {"SqueezeNet, 0.74M": 740_000, "ResNet-18, 11.2M": 11_200_000}
SUMS = (10, 30, 100, 200)  # sites, where the secure sum is measured
SHOWN = (4, 10, 30, 100, 300, 1000)
DOWN, UP = 4, 2  # bytes a coordinate: float32 weights, 16-bit ring


@dataclass(frozen=True)
class Power:
    """seconds = factor * sites ** exponent."""

    factor: float
    exponent: float

    def at(self, sites: int) -> float:
        return float(self.factor * sites**self.exponent)


@dataclass(frozen=True)
class Legs:
    """seconds = fixed + sites * (each + bytes * a_byte)."""

    fixed: float
    each: float
    a_byte: float
    most: int  # sites that were measured

    def at(self, sites: int, size: float) -> float:
        return self.fixed + sites * (self.each + size * self.a_byte)


def main() -> None:
    """Measures, fits, prints, draws."""
    legs = fit_legs(sorted((HERE / "out").glob("engine-*.json")))
    sums = measure_sums(LENGTHS["SqueezeNet, 0.74M"])
    rows = {
        name: [(n, *parts(n, length, legs, sums)) for n in SHOWN]
        for name, length in LENGTHS.items()
    }
    for name, of_model in rows.items():
        print(f"\n{name}\nsites  site sum  coordinator sum  legs  in all, s  sent by it, MB")
        for n, site, server, travel in of_model:
            sent = n * LENGTHS[name] * DOWN / 1e6
            whole = site + server + travel
            print(f"{n:5}  {site:8.3f}  {server:15.3f}  {travel:5.2f}  {whole:9.2f}  {sent:10,.0f}")
    facts = {"commit": commit(), "legs": vars(legs), "sums": {k: vars(v) for k, v in sums.items()}}
    (HERE / "out" / "scale.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))
    draw(rows, legs.most)


def parts(sites: int, length: int, legs: Legs, sums: dict[str, Power]) -> tuple[float, ...]:
    """Returns seconds: a site's sum, the coordinator's, and two legs."""
    longer = length / LENGTHS["SqueezeNet, 0.74M"]  # both are linear in the vector
    out = legs.at(sites, length * (DOWN + UP) / 2)
    back = legs.at(sites, 32.0 * sites)  # openings: a share of every site
    return sums["site"].at(sites) * longer, sums["server"].at(sites) * longer, out + back


# -- Measured -------------------------------------------------------------------------


def measure_sums(length: int) -> dict[str, Power]:
    """Returns the fitted CPU seconds of a site, with noise, and of the coordinator."""
    values = (np.random.default_rng(0).standard_normal(length) * 0.01).astype(np.float32)
    seen: dict[str, list[tuple[int, float]]] = {"site": [], "server": []}
    for sites in SUMS:
        job, privates = make_job(sites, length)
        session, encode = Session(job, privates), noised(job)
        session.round(values, encode)
        times = session.round(values, encode)
        for who, points in seen.items():
            points.append((sites, times[who]))
        print(f"{sites} sites: site {times['site']:.3f} s, coordinator {times['server']:.3f} s",
              file=sys.stderr)  # fmt: skip
    return {who: power(points) for who, points in seen.items()}


def power(points: Sequence[tuple[int, float]]) -> Power:
    x, y = np.log(np.array(points)).T
    exponent, constant = np.polyfit(x, y, 1)
    return Power(factor=float(np.exp(constant)), exponent=float(exponent))


def fit_legs(paths: Sequence[Path]) -> Legs:
    """Returns the least-squares fit, in relative error, of every leg that was measured."""
    found = [json.loads(path.read_text()) for path in paths]
    rows, seconds = [], []
    for one in found:
        for size, taken in one["seconds_a_leg"].items():
            rows.append([1.0, one["sites"], one["sites"] * float(size)])
            seconds.append(taken["nvflare"])
    design, taken_all = np.array(rows), np.array(seconds)
    weights: NDArray[np.float64] = 1 / taken_all
    fixed, each, a_byte = np.linalg.lstsq(design * weights[:, None], np.ones(len(rows)))[0]
    return Legs(float(fixed), float(each), float(a_byte), max(one["sites"] for one in found))


# -- Drawn ----------------------------------------------------------------------------


def draw(rows: dict[str, list[tuple[float, ...]]], measured: int) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - heavy

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(1, len(rows), figsize=(10, 4.2), sharey=True)
    for axis, (name, of_model) in zip(axes, rows.items(), strict=True):
        sites = [int(row[0]) for row in of_model]
        lines = ("a site's sum", "the coordinator's sum", "two legs")
        for k, (label, marker) in enumerate(zip(lines, "osD", strict=True), 1):
            seconds = [row[k] for row in of_model]
            (line,) = axis.loglog(sites, seconds, label=label)
            most = measured if k == len(lines) else max(SUMS)
            for n, value in zip(sites, seconds, strict=True):
                face = line.get_color() if n <= most else "white"
                axis.plot(n, value, marker, color=line.get_color(), markerfacecolor=face)
        axis.set_xticks(sites, [f"{n:,}" for n in sites])
        axis.minorticks_off()
        axis.set_title(name)
        axis.set_xlabel("sites")
        axis.grid(visible=True, alpha=0.25)
    axes[0].set_ylabel("seconds a round, beside the sites' computing")
    axes[0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    with mpl.rc_context({"svg.hashsalt": "consilium", "svg.fonttype": "none"}):
        figure.savefig(HERE / "plots" / "scale.svg", metadata={"Date": None})
    figure.savefig(HERE / "out" / "scale.png", dpi=110)


if __name__ == "__main__":
    main()
