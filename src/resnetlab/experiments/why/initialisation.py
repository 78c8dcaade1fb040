"""Gradients at initialisation: do they vanish or explode, and are those of neighbouring inputs alike?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from resnetlab.analysis import gradient_norms
from resnetlab.experiments.experiment import Listener
from resnetlab.experiments.options import Options
from resnetlab.experiments.study import Study
from resnetlab.experiments.why.claims import Claim, claim_tables, colour, numbers, style
from resnetlab.networks.architecture import parse
from resnetlab.report.record import Figure, Line, Panel, Record, Table
from resnetlab.runs.settings import choose_device

GROWTH = math.sqrt(math.pi / (math.pi - 1))  # of a wide plain network with batch norm and ReLU, per layer
DEPTHS = (20, 32, 44, 56, 110)
DEEPEST = "cifar_resnet1202"
SIZE, IMAGES, FEW = 16, 128, 32  # pixels; images for depths up to 110, and for 1202
SHATTERED = ("cifar_plain8", "cifar_resnet8", *(f"cifar_{kind}{d}" for kind in ("plain", "resnet") for d in DEPTHS))
HEALTHY = 100.0  # first layer's gradient over the last's, either way


def _initialisation(options: Options, listener: Listener) -> Record:
    device = choose_device(options.settings.device)
    if options.settings.threads:
        torch.set_num_threads(options.settings.threads)
    cases = [
        (f"cifar_{kind}{depth}", norm) for norm in (True, False) for kind in ("plain", "resnet") for depth in DEPTHS
    ]
    cases += [(DEEPEST, True)]
    found: list[dict[str, Any]] = []
    for name, norm in listener.watched(cases, "gradients at initialisation", len(cases)):
        images = FEW if name == DEEPEST else IMAGES
        batch = gradient_norms.random_batch(3, SIZE, 10, images, device)
        found.append(
            {
                "network": name,
                "batch_norm": norm,
                **gradient_norms.at_initialisation(parse(name), batch, batch_norm=norm),
            }
        )
    x, _ = gradient_norms.random_batch(3, SIZE, 10, 2, device)
    listener.say("correlation of the gradients of neighbouring inputs")
    correlations = {name: gradient_norms.shattering(parse(name), x) for name in SHATTERED}
    return initialisation_record({"initialisation": found, "correlations": correlations})


def initialisation_record(data: Mapping[str, Any]) -> Record:
    """The part of the record that needs no trained network."""
    claims = _initial_claims(data)
    note = (
        f"Random images of {SIZE}x{SIZE} pixels, {IMAGES} at a time ({FEW} for ResNet-1202), training mode, seed 0."
    )
    tables = (_initial_table(data, note), _correlation_table(data), *claim_tables(claims, note))
    return Record(
        "gradients", "", (_sentence(claims),), tables, (_initial_figure(data), _other_figure(data)), data=data
    )


def _sentence(claims: Sequence[Claim]) -> str:
    held = sum(bool(claim.holds) for claim in claims)
    return f"At initialisation, in networks of 20 to 1202 layers, {held} of {len(claims)} claims hold."


def ratio(entry: Mapping[str, Any]) -> float:
    """The norm of the first layer's gradient over that of the last one's."""
    first, last = entry["gradient"][0], entry["gradient"][-1]
    return float(first / last) if last else math.inf


def _initial(data: Mapping[str, Any], name: str, *, norm: bool = True) -> Mapping[str, Any]:
    return next(e for e in data["initialisation"] if (e["network"], e["batch_norm"]) == (name, norm))


def _initial_table(data: Mapping[str, Any], note: str) -> Table:
    rows = []
    for entry in data["initialisation"]:
        row = parse(entry["network"])
        norm = "yes" if entry["batch_norm"] else "no"
        signal = f"{entry['signal'][-1] / entry['signal'][0]:.2g}"
        branch = f"{entry['branches'][-1]:.2g}" if row.is_residual else "-"
        rows.append((row.label, norm, f"{ratio(entry):.2g}", f"{entry['growth']:.3f}", signal, branch))
    header = (
        "network",
        "batch norm",
        "gradient, first/last layer",
        "growth a layer",
        "signal, last/first",
        "last F(x) to x",
    )
    text = (
        f"{note} Gradient: norm of the gradient of the loss with respect to a 3x3 layer's output. Growth: its mean "
        "factor per layer towards the input. F(x) to x: root mean squares of the last block's residual function and "
        "of its input."
    )
    return Table(header, tuple(rows), text, "At initialisation")


def _correlation_table(data: Mapping[str, Any]) -> Table:
    found = data["correlations"]
    depths = sorted({parse(name).depth for name in found})
    rows = tuple(
        (f"{depth}", *(f"{found[f'cifar_{kind}{depth}']:.3f}" for kind in ("plain", "resnet"))) for depth in depths
    )
    note = (
        f"Mean cosine of the gradients at neighbouring ones of {gradient_norms.NEIGHBOURS} inputs on the circle "
        "through two random images, at initialisation, with batch normalisation."
    )
    return Table(("depth", "plain", "residual"), rows, note, "Correlation of the gradients of neighbouring inputs")


def _initial_figure(data: Mapping[str, Any]) -> Figure:
    panels = []
    for norm in (True, False):
        lines = list[Line]()
        for entry in data["initialisation"]:
            row = parse(entry["network"])
            if entry["batch_norm"] == norm and row.depth in (20, 56, 110, 1202):
                y = [value / entry["gradient"][-1] for value in entry["gradient"]]
                x = [k / (len(y) - 1) for k in range(len(y))]
                lines.append(Line(tuple(x), tuple(y), row.label, colour(row), style(row)))
        what = "with batch norm" if norm else "without batch norm"
        panels.append(
            Panel(
                what, "place of the layer (0 first, 1 last)", "gradient's norm / last layer's", tuple(lines), log=True
            )
        )
    claim = "Claims: gradients vanish in deep plain networks / have healthy norms. Seen: with batch norm they explode"
    return Figure(f"Gradients at initialisation\n{claim}", tuple(panels), size=(4.4, 3.9), below=True)


def _other_figure(data: Mapping[str, Any]) -> Figure:
    lines = list[Line]()
    for kind, label, shade in (("plain", "plain networks", "#d62728"), ("resnet", "residual networks", "#222222")):
        rows = [parse(name) for name in data["correlations"] if kind in name]
        y = tuple(data["correlations"][row.name] for row in rows)
        lines.append(Line(tuple(float(row.depth) for row in rows), y, label, shade, style(rows[0], points=True)))
    ratios = list[Line]()
    for name in ("cifar_resnet56", "cifar_resnet110"):
        entry, row = _initial(data, name), parse(name)
        n = len(entry["branches"])
        ratios.append(Line(numbers(n), tuple(entry["branches"]), row.label, colour(row), "residual"))
    n = len(_initial(data, "cifar_resnet110")["branches"])
    ratios.append(
        Line(
            numbers(n),
            tuple(1 / math.sqrt(k) for k in range(1, n + 1)),
            "1 / sqrt(block)",
            "#888888",
            "dotted",
        )
    )
    panels = (
        Panel(
            "gradients of neighbouring inputs", "depth (layers)", "correlation", tuple(lines), bottom=-0.05, top=1.0
        ),
        Panel("F(x) against x", "block (from the input)", "root mean square of F(x) / x", tuple(ratios)),
    )
    claim = "Claims: plain gradients turn to noise with depth; batch norm scales down F by the square root of depth"
    return Figure(
        f"Shattering, and the size of the residual branch, at initialisation\n{claim}",
        panels,
        share=False,
        size=(4.4, 3.9),
        below=True,
    )


def _initial_claims(data: Mapping[str, Any]) -> list[Claim]:
    plain, residual = (_initial(data, f"cifar_{kind}56") for kind in ("plain", "resnet"))
    deep, deepest = _initial(data, "cifar_plain110"), _initial(data, DEEPEST)
    shown = {"plain-56": plain, "plain-110": deep, "ResNet-56": residual, "ResNet-1202": deepest}
    told = "first layer's gradient over the last's: "
    told += ", ".join(f"{name} {ratio(entry):.2g}" for name, entry in shown.items())
    healthy = 1 / HEALTHY < ratio(plain) < HEALTHY and 1 / HEALTHY < ratio(deep) < HEALTHY
    claims = [
        Claim(
            "gradients of plain networks with batch norm have healthy norms (within a factor of 100)",
            "He et al., 2015, Section 4.1",
            told,
            healthy,
        ),
        Claim(
            "gradients vanish in deep plain networks with batch norm",
            "a common reading",
            told,
            ratio(deep) < 1 / HEALTHY,
        ),
    ]
    bare = _initial(data, "cifar_plain110", norm=False)
    told = f"plain-110 without batch norm: first over last {ratio(bare):.2g}"
    claims.append(
        Claim(
            "gradients vanish in deep plain networks without batch norm",
            "a common reading",
            told,
            ratio(bare) < 1 / HEALTHY,
        )
    )
    told = f"plain-56 {plain['growth']:.3f}, plain-110 {deep['growth']:.3f} a layer (wide networks: {GROWTH:.3f})"
    holds = all(1.1 < entry["growth"] < 1.25 for entry in (plain, deep))
    claims.append(
        Claim(
            "in plain networks with batch norm gradients grow by about 1.21 a layer towards the input",
            "Yang et al., 2019",
            told,
            holds,
        )
    )
    slope = gradient_norms.exponent(_initial(data, "cifar_resnet110")["branches"][3:18], first=4)
    told = f"ResNet-110, first stage: F(x) to x falls with the number of the block to the power of {slope:.2f}"
    text = "batch norm scales F(x) down against x by the square root of the depth (power of -0.5)"
    claims.append(Claim(text, "De and Smith, 2020", told, -0.65 < slope < -0.4))
    found = data["correlations"]
    falls = {kind: [f"{found[f'cifar_{kind}{d}']:.2f}" for d in (20, 56, 110)] for kind in ("plain", "resnet")}
    told = f"depth 20, 56, 110: plain {', '.join(falls['plain'])}; residual {', '.join(falls['resnet'])}"
    holds = found["cifar_plain56"] < 0.1 and found["cifar_resnet110"] > 0.25
    claims.append(
        Claim(
            "gradients of neighbouring inputs decorrelate exponentially with depth in plain networks, far slower in "
            "residual ones",
            "Balduzzi et al., 2017",
            told,
            holds,
        )
    )
    return claims


STUDY = Study("gradients", "Gradients at initialisation", _initialisation, frozenset({"device", "threads"}))
