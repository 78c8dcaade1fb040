"""Table 1 and the counts of Figure 3, printed and computed."""

from collections.abc import Mapping
from typing import Any

from resnetlab.analysis.structure import compared_structure
from resnetlab.experiments.experiment import Listener
from resnetlab.experiments.options import Options
from resnetlab.experiments.study import Study
from resnetlab.networks.architecture import parse
from resnetlab.report.record import Record, Table

WORDS = {"rounds": "rounds to it", "cut": "cut, not rounded", "differs": "differs"}
STAGES_NOTE = (
    "One image of 224x224. Printed: Table 1 of the paper. Computed: read from the modules of the network, and from "
    "the shapes that a forward pass gives."
)
COUNTS_NOTE = (
    "Multiply-adds of convolutions and fully connected layers for one image of 224x224; the paper calls them FLOPs. "
    'It prints no parameters on ImageNet. Where it leaves the convention open, each is computed; "rounds to it" is '
    "one that gives the printed value."
)


def structure_record(data: Mapping[str, Any]) -> Record:
    """The record from the results of `compared_structure`."""
    title = "Table 1 and the counts of Figure 3, printed and computed"
    return Record("table1", title, (verdict(data),), (stage_table(data), count_table(data)), data=data)


def stage_table(data: Mapping[str, Any]) -> Table:
    """Each row of Table 1 for each depth: output size, block and repeats, printed and computed."""
    header = ("network", "layer", "printed", "computed", "agreement")
    rows: list[tuple[str, ...]] = []
    for pair in data["stages"]:
        printed, computed = pair["printed"], pair["computed"]
        label = parse(printed["network"]).label
        same = "same" if printed == computed else "differs"
        rows.append((label, printed["stage"], block_text(printed), block_text(computed), same))
    return Table(header, tuple(rows), STAGES_NOTE, "Layers")


def block_text(row: Mapping[str, Any]) -> str:
    """A row of Table 1 as text, e.g. `28x28: [3x3, 128; 3x3, 128] x4, stride 2`."""
    output = f"{row['output']}x{row['output']}: "
    if row["stage"] == "fc":
        return output + f"average pool, {row['layers'][0][1]}-d fc, softmax"
    inside = "; ".join(f"{kernel}x{kernel}, {filters}" for kernel, filters in row["layers"])
    block = inside if row["stage"] == "conv1" else f"[{inside}] x{row['repeats']}"
    pool = "{0}x{0} max pool, stride {1}; ".format(*row["pool"]) if row["pool"] else ""
    return output + pool + block + (f", stride {row['stride']}" if row["stride"] > 1 else "")


def count_table(data: Mapping[str, Any]) -> Table:
    """Each printed count of multiply-adds and the computed ones by convention."""
    header = ("where", "network", "printed", "convention", "computed", "agreement", "parameters")
    rows: list[tuple[str, ...]] = [
        (
            count["where"],
            count["method"],
            f"{count['printed'] / 1e9:.1f}e9",
            count["convention"],
            f"{count['multiply_adds']:,}",
            WORDS[count["agreement"]],
            f"{count['parameters']:,}",
        )
        for count in data["counts"]
    ]
    return Table(header, tuple(rows), COUNTS_NOTE, "Multiply-adds")


def verdict(data: Mapping[str, Any]) -> str:
    """What agrees and what does not, computed from the record."""
    pairs = data["stages"]
    same = sum(pair["printed"] == pair["computed"] for pair in pairs)
    best: dict[tuple[str, str], dict[str, Any]] = {}
    order = ("rounds", "cut", "differs")
    for count in data["counts"]:
        key = count["where"], count["method"]
        if key not in best or order.index(count["agreement"]) < order.index(best[key]["agreement"]):
            best[key] = count
    found = {word: [c for c in best.values() if c["agreement"] == word] for word in order}
    sentences = [
        f"{same} of {len(pairs)} rows of Table 1 are as built here, and {len(found['rounds'])} of {len(best)} "
        "printed counts of multiply-adds are a computed one rounded."
    ]
    for count in found["cut"] + found["differs"]:
        how = "that is cut, not rounded" if count["agreement"] == "cut" else "another value"
        computed = f"{count['multiply_adds'] / 1e9:.3f}e9"
        sentences.append(f"The {count['method']} network's {count['printed'] / 1e9:.1f}e9 is {computed} here: {how}.")
    vgg = [f"{c['method']}'s is {c['convention']}" for c in found["rounds"] if c["method"].startswith("VGG")]
    if vgg:
        sentences.append(f"The conventions of VGG's counts: {', '.join(vgg)}.")
    share = data["plain34_percent_of_vgg19"]
    sentences.append(
        f"The 34-layer plain network has {share['computed']:.2f} % of VGG-19's multiply-adds; Section 3.3 prints "
        f"{share['printed']} % ({WORDS[share['agreement']]})."
    )
    return " ".join(sentences)


def _study(options: Options, listener: Listener) -> Record:
    return structure_record(compared_structure())


STUDIES = (Study("table1", "Table 1: layers, multiply-adds and parameters", _study),)
