"""Time against multiply-adds: networks measured by stage and by kind of layer."""

from collections.abc import Mapping
from statistics import median
from typing import Any

import torch

from resnetlab.analysis.layer_times import BATCH_SIZE, NETWORKS, ROUNDS, study
from resnetlab.analysis.parts import CLASSIFIER, MAX_POOL, NORM, OPTIMIZER, PROJECTION, REST
from resnetlab.experiments.experiment import Listener
from resnetlab.experiments.options import Options
from resnetlab.experiments.study import Study
from resnetlab.report.record import Bar, Figure, Line, Panel, Record, Table
from resnetlab.runs.settings import choose_device

BASE, OTHER = "resnet34", "resnet50"
NOTICEABLE = 0.05  # relative to the ratio of multiply-adds; smaller deviations count as none
WAYS = ("forward", "training")
TITLE = "Time and multiply-adds"
COLOURS = {
    "7x7 conv": "#08306b",
    "3x3 conv": "#2171b5",
    "1x1 conv": "#6baed6",
    PROJECTION: "#c6dbef",
    NORM: "#d62728",
    MAX_POOL: "#2ca02c",
    CLASSIFIER: "#98df8a",
    OPTIMIZER: "#7b3fa0",
    REST: "#c8a200",
}
NEWER = " v1.5"
WAY_COLOURS = {"forward": "#00a5c8", "training": "#d62728"}


def compared(data: Mapping[str, Any]) -> tuple[str, str]:
    """The base network of the ratios, and the network of the sentence: ResNet-34 and ResNet-50 if measured."""
    names = list(data["networks"])
    base = BASE if BASE in names else names[0]
    others = [name for name in names if name != base] or [base]
    return base, OTHER if OTHER in others else others[-1]


def ratios(data: Mapping[str, Any], name: str, way: str) -> list[float]:
    """A network's time divided by the base network's, per round; `way` is forward or training."""
    base, _ = compared(data)
    networks = data["networks"]
    return [a / b for a, b in zip(networks[name][way], networks[base][way], strict=True)]


def network_table(data: Mapping[str, Any]) -> Table:
    """Each network's multiply-adds and times, with their ratios."""
    base, _ = compared(data)
    networks = data["networks"]
    label = networks[base]["label"]
    header = ("network", "work, 1e9", "ratio", "forward, ms", "ratio", "1e9/s", "training, ms", "ratio", "1e9/s")
    rows = []
    for name, found in networks.items():
        cells = [found["label"], f"{found['multiply_adds'] / 1e9:.3f}"]
        cells.append(f"{found['multiply_adds'] / networks[base]['multiply_adds']:.2f}")
        for way in WAYS:
            seconds = median(found[way])
            cells += [_milliseconds(data, seconds), f"{median(ratios(data, name, way)):.2f}"]
            cells.append(_rate(data, _work(found["kinds"], way), seconds))
        rows.append(tuple(cells))
    return Table(
        header,
        tuple(rows),
        f"Work is multiply-adds. Work and times are of one image, ratios to {label}. {protocol(data)}",
    )


def share_table(data: Mapping[str, Any], name: str, by: str, title: str) -> Table:
    """Shares of one network's multiply-adds and of its time, `by` kinds or stages."""
    found = data["networks"][name]
    header = (found["label"], "work, %", "forward, ms", "%", "1e9/s", "training, ms", "%", "1e9/s")
    whole = {way: sum(entry[way] for entry in found[by].values()) for way in WAYS}
    rows = []
    for part, entry in found[by].items():
        cells = [part, f"{100 * entry['multiply_adds'] / found['multiply_adds']:.1f}"]
        for way in WAYS:
            cells += [_milliseconds(data, entry[way]), f"{100 * entry[way] / whole[way]:.1f}"]
            cells.append(_rate(data, _work({part: entry}, way), entry[way]))
        rows.append(tuple(cells))
    return Table(header, tuple(rows), NOTES[by], f"{found['label']} {title}")


NOTES = {
    "kinds": (
        "Work is multiply-adds, times are of one image. Every different layer is timed alone and counts as often as "
        "it occurs; the rest is what the network takes beyond them: ReLU, addition, memory that is taken from the "
        "system, and the error of this sum. Projections are the 1x1 convolutions of shortcuts."
    ),
    "stages": (
        "Stages are timed as the network runs. conv1 has the max pooling, fc the average pooling and, in training, "
        "the loss."
    ),
}


def reference(data: Mapping[str, Any]) -> str:
    """The speed of one large convolution on the same machine."""
    found = data["reference"]
    speeds = (f"{found[f'{way}_per_second'] / 1e9:,.1f}e9 {way}" for way in WAYS)
    return f"For comparison, multiply-adds a second of one {found['layer']}: {' and '.join(speeds)}."


def protocol(data: Mapping[str, Any]) -> str:
    """How and on which hardware it was measured."""
    settings, machine = data["settings"], data["environment"]
    sizes = sorted({found["image_size"] for found in data["networks"].values()})
    images = " and ".join(f"{size}x{size}" for size in sizes)
    rounds, threads = settings["rounds"], machine["threads"]
    return (
        f"Forward: evaluation mode, no gradients. Training: forward, backward and a step of SGD with momentum; its "
        f"multiply-adds are three times the forward ones, the first convolution's twice. {settings['precision']}, "
        f"{settings['batch_size']} random images of {images} at a time, channels last, not compiled. Medians of "
        f"{rounds} round{'s' * (rounds > 1)}, in each of which every network takes its turn, and ratios round by "
        f"round; {settings['clock']}. {machine['device']}, {threads} thread{'s' * (threads > 1)}, "
        f"torch {machine['torch']}."
    )


def verdict(data: Mapping[str, Any]) -> str:
    """How well multiply-adds predict time here, in sentences computed from the record."""
    base, name = compared(data)
    if base == name:
        return "One network alone has nothing to be compared with."
    this, other = data["networks"][name], data["networks"][base]
    work = this["multiply_adds"] / other["multiply_adds"]
    times = {way: ratios(data, name, way) for way in WAYS}
    told = {way: _told(median(found) / work) for way, found in times.items()}
    same = told["forward"] == told["training"]
    end = f"in both {told['forward']}" if same else f"forward {told['forward']}, in training {told['training']}"
    return (
        f"{this['label']} does {work:.2f} times {other['label']}'s multiply-adds in {_range(times['forward'])} its "
        f"time forward and {_range(times['training'])} in training: {end}. "
        + " ".join(_difference(data, this, other, way) for way in WAYS)
    )


def cost_record(data: Mapping[str, Any]) -> Record:
    """The record from the measurements."""
    tables = [network_table(data)]
    for by, title in (("kinds", "by kind of layer"), ("stages", "by stage")):
        tables += [share_table(data, name, by, title) for name in data["networks"]]
    sentences = (verdict(data), reference(data))
    return Record("cost", TITLE, sentences, tuple(tables), (cost_figure(data),), data=data)


def cost_figure(data: Mapping[str, Any]) -> Figure:
    """Left: time against multiply-adds; right: time by kind of layer."""
    machine = data["environment"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    title = f"{TITLE}\n{machine['device']}, {threads}, {data['settings']['batch_size']} images at a time, float32"
    return Figure(title, (_points(data), _bars(data)), share=False, size=(5.6, 4.6))


def _points(data: Mapping[str, Any]) -> Panel:
    networks = data["networks"]
    start = networks[compared(data)[0]]
    most = max(found["multiply_adds"] for found in networks.values()) / 1e9
    lines, legend = list[Line](), list[tuple[str, str, str]]()
    for way in WAYS:
        slope = _image_milliseconds(data, median(start[way])) / (start["multiply_adds"] / 1e9)
        lines.append(Line((0.0, most), (0.0, slope * most), "", WAY_COLOURS[way], "reference"))
        legend.append((way, WAY_COLOURS[way], "points"))
        for newer, style in ((False, "points"), (True, "open points")):
            shown = [found for found in networks.values() if found["label"].endswith(NEWER) == newer]
            if shown:
                x = tuple(found["multiply_adds"] / 1e9 for found in shown)
                y = tuple(_image_milliseconds(data, median(found[way])) for found in shown)
                notes = tuple(found["label"] for found in shown) if way == "training" and not newer else ()
                lines.append(Line(x, y, "", WAY_COLOURS[way], style, notes=notes))
    if any(found["label"].endswith(NEWER) for found in networks.values()):
        legend.append(("version 1.5", "grey", "open points"))
    legend.append((f"in proportion, from {start['label']}", "grey", "reference"))
    work, time = "multiply-adds of one image (1e9)", "time of one image (ms)"
    return Panel("time against multiply-adds", work, time, tuple(lines), legend=tuple(legend), right=1.08 * most)


def _bars(data: Mapping[str, Any]) -> Panel:
    """Two bars per network. A rest below zero, a measurement error, is not drawn."""
    bars = [
        Bar(k + offset, max(0.0, _image_milliseconds(data, found["kinds"][kind][way])), kind, COLOURS[kind])
        for k, found in enumerate(data["networks"].values())
        for way, offset in zip(WAYS, (-0.21, 0.21), strict=True)
        for kind in COLOURS
        if kind in found["kinds"]
    ]
    labels = tuple(found["label"].replace("-", "-\n").replace(" ", "\n") for found in data["networks"].values())
    title = "time by kind of layer: left bar forward, right bar training"
    return Panel(title, "", "time of one image (ms)", bars=tuple(bars), ticks=labels)


def _told(excess: float) -> str:
    if abs(excess - 1) < NOTICEABLE:
        return "what its multiply-adds tell"
    return f"{'more' if excess > 1 else 'less'} than its multiply-adds tell"


def _range(found: list[float]) -> str:
    spread = f" ({min(found):.2f} to {max(found):.2f} in {len(found)} rounds)" if len(found) > 1 else ""
    return f"{median(found):.2f} times{spread}"


def _difference(data: Mapping[str, Any], this: Mapping[str, Any], other: Mapping[str, Any], way: str) -> str:
    """The difference in time by kind of layer, in ms per image."""
    groups = {"convolutions and fc": 0.0, "batch normalisation": 0.0, "all else": 0.0}
    for found, sign in ((this, 1), (other, -1)):
        for kind, entry in found["kinds"].items():
            group = "batch normalisation" if kind == NORM else "convolutions and fc"
            if kind in (MAX_POOL, OPTIMIZER, REST):
                group = "all else"
            groups[group] += sign * _image_milliseconds(data, entry[way])
    where = {"forward": "Forward", "training": "In training"}[way]
    parts = ", ".join(f"{group} {value:+.1f}" for group, value in groups.items())
    return f"{where} an image takes {sum(groups.values()):+.1f} ms: {parts}."


def _work(entries: Mapping[str, Any], way: str) -> float:
    key = "multiply_adds" if way == "forward" else "training_multiply_adds"
    return sum(float(entry[key]) for entry in entries.values())


def _rate(data: Mapping[str, Any], work: float, seconds: float) -> str:
    """Multiply-adds per second, in 1e9."""
    return f"{work * data['settings']['batch_size'] / seconds / 1e9:,.1f}" if work and seconds > 0 else "-"


def _image_milliseconds(data: Mapping[str, Any], seconds: float) -> float:
    return 1000 * seconds / int(data["settings"]["batch_size"])


def _milliseconds(data: Mapping[str, Any], seconds: float) -> str:
    return f"{_image_milliseconds(data, seconds):.2f}"


def _study(options: Options, listener: Listener) -> Record:
    settings = options.settings
    device = choose_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    batch_size, rounds = options.recipe.batch_size or BATCH_SIZE[device.type], options.rounds or ROUNDS[device.type]
    watch = lambda turns: listener.watched(turns, "measuring", len(turns))
    data = study(options.networks or NETWORKS, device, batch_size, rounds, options.recipe.image_size, watch)
    return cost_record(data)


STUDIES = (
    Study(
        "cost",
        "What multiply-adds cost in time",
        _study,
        frozenset({"networks", "device", "threads", "batch_size", "rounds", "image_size"}),
    ),
)
