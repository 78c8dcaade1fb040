"""The cost study's tables, sentence, picture and page, from its record alone."""

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from resnetlab.analysis.parts import CLASSIFIER, MAX_POOL, NORM, OPTIMIZER, PROJECTION, REST
from resnetlab.files import replacing, write_json
from resnetlab.report.figures import drawn
from resnetlab.report.tables import Table

BASE, OTHER = "resnet34", "resnet50"
NOTICEABLE = 0.05  # of the ratio of multiply-adds; a smaller departure from it is called none
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


def compared(record: dict[str, Any]) -> tuple[str, str]:
    """The network that ratios are to, and the one that the sentence is about: ResNet-34 and ResNet-50 if measured."""
    names = list(record["networks"])
    base = BASE if BASE in names else names[0]
    others = [name for name in names if name != base] or [base]
    return base, OTHER if OTHER in others else others[-1]


def ratios(record: dict[str, Any], name: str, way: str) -> list[float]:
    """A network's time over that of the first to compare with, round by round; `way` is forward or training."""
    base, _ = compared(record)
    networks = record["networks"]
    return [a / b for a, b in zip(networks[name][way], networks[base][way], strict=True)]


def network_table(record: dict[str, Any]) -> Table:
    """Each network's multiply-adds and time, with their ratios."""
    base, _ = compared(record)
    networks = record["networks"]
    label = networks[base]["label"]
    header = ("network", "work, 1e9", "ratio", "forward, ms", "ratio", "1e9/s", "training, ms", "ratio", "1e9/s")
    rows = []
    for name, found in networks.items():
        cells = [found["label"], f"{found['multiply_adds'] / 1e9:.3f}"]
        cells.append(f"{found['multiply_adds'] / networks[base]['multiply_adds']:.2f}")
        for way in WAYS:
            seconds = median(found[way])
            cells += [_milliseconds(record, seconds), f"{median(ratios(record, name, way)):.2f}"]
            cells.append(_rate(record, _work(found["kinds"], way), seconds))
        rows.append(tuple(cells))
    return Table(
        header, rows, f"Work is multiply-adds. Work and times are of one image, ratios to {label}. {protocol(record)}"
    )


def share_table(record: dict[str, Any], name: str, by: str) -> Table:
    """Shares of one network's multiply-adds and of its time, `by` kinds or stages."""
    found = record["networks"][name]
    header = (found["label"], "work, %", "forward, ms", "%", "1e9/s", "training, ms", "%", "1e9/s")
    whole = {way: sum(entry[way] for entry in found[by].values()) for way in WAYS}
    rows = []
    for part, entry in found[by].items():
        cells = [part, f"{100 * entry['multiply_adds'] / found['multiply_adds']:.1f}"]
        for way in WAYS:
            cells += [_milliseconds(record, entry[way]), f"{100 * entry[way] / whole[way]:.1f}"]
            cells.append(_rate(record, _work({part: entry}, way), entry[way]))
        rows.append(tuple(cells))
    return Table(header, rows, "")


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


def reference(record: dict[str, Any]) -> str:
    """What one large convolution reaches on the same machine."""
    found = record["reference"]
    speeds = (f"{found[f'{way}_per_second'] / 1e9:,.1f}e9 {way}" for way in WAYS)
    return f"For comparison, multiply-adds a second of one {found['layer']}: {' and '.join(speeds)}."


def protocol(record: dict[str, Any]) -> str:
    """How and on what it was measured."""
    settings, machine = record["settings"], record["environment"]
    sizes = sorted({found["image_size"] for found in record["networks"].values()})
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


def verdict(record: dict[str, Any]) -> str:
    """What multiply-adds tell of time here, in sentences computed from the record, whichever way it went."""
    base, name = compared(record)
    if base == name:
        return "One network alone has nothing to be compared with."
    this, other = record["networks"][name], record["networks"][base]
    work = this["multiply_adds"] / other["multiply_adds"]
    times = {way: ratios(record, name, way) for way in WAYS}
    told = {way: _told(median(found) / work) for way, found in times.items()}
    same = told["forward"] == told["training"]
    end = f"in both {told['forward']}" if same else f"forward {told['forward']}, in training {told['training']}"
    return (
        f"{this['label']} does {work:.2f} times {other['label']}'s multiply-adds in {_range(times['forward'])} its "
        f"time forward and {_range(times['training'])} in training: {end}. "
        + " ".join(_difference(record, this, other, way) for way in WAYS)
    )


def page(record: dict[str, Any]) -> str:
    """Sentence, tables and picture as Markdown."""
    text = (
        f"# {TITLE}\n\n{verdict(record)}\n\n![Time against multiply-adds, and by kind of layer](cost.png)\n\n"
        f"{network_table(record).markdown()}\n{reference(record)}\n"
    )
    for by, title in (("kinds", "By kind of layer"), ("stages", "By stage")):
        tables = (share_table(record, name, by).markdown().rstrip() for name in record["networks"])
        text += f"\n## {title}\n\n{NOTES[by]}\n\n" + "\n\n".join(tables) + "\n"
    return text


def write_cost(record: dict[str, Any], folder: Path) -> None:
    """`cost.json`, and what is made of it: `cost.md`, `cost.png`, `cost.svg`."""
    write_json(folder / "cost.json", record)
    with replacing(folder / "cost.md") as temporary:
        temporary.write_text(page(record))
    draw_cost(record, folder / "cost")


def draw_cost(record: dict[str, Any], path: Path) -> None:
    """`path`.png and `path`.svg: left, time against multiply-adds; right, time by kind of layer."""
    machine = record["environment"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
    title = f"{TITLE}\n{machine['device']}, {threads}, {record['settings']['batch_size']} images at a time, float32"
    with drawn(path, title, 2, share=False, size=(5.6, 4.6)) as (left, right):
        _points(left, record)
        _bars(right, record)
        for axis in (left, right):
            axis.grid(axis="y", linestyle=(0, (1, 3)), color="grey", linewidth=0.6)
            axis.set_axisbelow(True)
            axis.set_ylabel("time of one image (ms)")


def _points(axis: Axes, record: dict[str, Any]) -> None:
    networks = record["networks"]
    start = networks[compared(record)[0]]
    labels = [found["label"] for found in networks.values()]
    most = max(found["multiply_adds"] for found in networks.values()) / 1e9
    for way in WAYS:
        slope = _image_milliseconds(record, median(start[way])) / (start["multiply_adds"] / 1e9)
        axis.plot([0, most], [0, slope * most], color=WAY_COLOURS[way], linestyle=(0, (4, 2)), linewidth=0.8)
        for label, found in zip(labels, networks.values(), strict=True):
            x, y = found["multiply_adds"] / 1e9, _image_milliseconds(record, median(found[way]))
            face = "white" if label.endswith(NEWER) else WAY_COLOURS[way]
            axis.plot([x], [y], "o", color=WAY_COLOURS[way], markerfacecolor=face, markersize=5)
            if way == "training" and (not label.endswith(NEWER) or label.removesuffix(NEWER) not in labels):
                below = label == start["label"]  # ResNet-34 and ResNet-50 lie close to each other
                axis.annotate(
                    label,
                    (x, y),
                    xytext=(5, -4) if below else (-5, 4),
                    textcoords="offset points",
                    ha="left" if below else "right",
                    va="top" if below else "bottom",
                    fontsize=8,
                )
    handles = [Line2D([], [], color=WAY_COLOURS[way], marker="o", linestyle="", label=way) for way in WAYS]
    if any(label.endswith(NEWER) for label in labels):
        handles.append(
            Line2D([], [], color="grey", marker="o", markerfacecolor="white", linestyle="", label="version 1.5")
        )
    text = f"in proportion, from {start['label']}"
    handles.append(Line2D([], [], color="grey", linestyle=(0, (4, 2)), linewidth=0.8, label=text))
    axis.legend(handles=handles, fontsize=8, loc="upper left")
    axis.set_xlabel("multiply-adds of one image (1e9)")
    axis.set_xlim(0, 1.08 * most)
    axis.set_ylim(0, 1.1 * axis.dataLim.ymax)
    axis.set_title("time against multiply-adds", fontsize=9)


def _bars(axis: Axes, record: dict[str, Any]) -> None:
    """Two bars for each network. A rest below zero, which is error of measurement, is not drawn."""
    networks = record["networks"]
    for k, found in enumerate(networks.values()):
        for way, offset in zip(WAYS, (-0.21, 0.21), strict=True):
            bottom = 0.0
            for kind in (kind for kind in COLOURS if kind in found["kinds"]):
                height = max(0.0, _image_milliseconds(record, found["kinds"][kind][way]))
                axis.bar(k + offset, height, 0.38, bottom, color=COLOURS[kind], edgecolor="white", linewidth=0.3)
                bottom += height
    kinds = [kind for kind in COLOURS if any(kind in found["kinds"] for found in networks.values())]
    handles = [Patch(color=COLOURS[kind], label=kind) for kind in reversed(kinds)]
    axis.legend(handles=handles, fontsize=8, loc="upper left", framealpha=0.9)
    labels = [found["label"].replace("-", "-\n").replace(" ", "\n") for found in networks.values()]
    axis.set_xticks(range(len(networks)), labels, fontsize=8)
    axis.set_title("time by kind of layer: left bar forward, right bar training", fontsize=9)


def _told(excess: float) -> str:
    if abs(excess - 1) < NOTICEABLE:
        return "what its multiply-adds tell"
    return f"{'more' if excess > 1 else 'less'} than its multiply-adds tell"


def _range(found: list[float]) -> str:
    spread = f" ({min(found):.2f} to {max(found):.2f} in {len(found)} rounds)" if len(found) > 1 else ""
    return f"{median(found):.2f} times{spread}"


def _difference(record: dict[str, Any], this: dict[str, Any], other: dict[str, Any], way: str) -> str:
    """Where the difference in time lies, in ms an image."""
    groups = {"convolutions and fc": 0.0, "batch normalisation": 0.0, "all else": 0.0}
    for found, sign in ((this, 1), (other, -1)):
        for kind, entry in found["kinds"].items():
            group = "batch normalisation" if kind == NORM else "convolutions and fc"
            if kind in (MAX_POOL, OPTIMIZER, REST):
                group = "all else"
            groups[group] += sign * _image_milliseconds(record, entry[way])
    where = {"forward": "Forward", "training": "In training"}[way]
    parts = ", ".join(f"{group} {value:+.1f}" for group, value in groups.items())
    return f"{where} an image takes {sum(groups.values()):+.1f} ms: {parts}."


def _work(entries: dict[str, Any], way: str) -> float:
    key = "multiply_adds" if way == "forward" else "training_multiply_adds"
    return sum(float(entry[key]) for entry in entries.values())


def _rate(record: dict[str, Any], work: float, seconds: float) -> str:
    """Multiply-adds a second, in 1e9."""
    return f"{work * record['settings']['batch_size'] / seconds / 1e9:,.1f}" if work and seconds > 0 else "-"


def _image_milliseconds(record: dict[str, Any], seconds: float) -> float:
    return 1000 * seconds / int(record["settings"]["batch_size"])


def _milliseconds(record: dict[str, Any], seconds: float) -> str:
    return f"{_image_milliseconds(record, seconds):.2f}"
