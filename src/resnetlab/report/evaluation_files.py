"""Write an evaluation to files: numbers, tables, the confusion matrix, the most confident mistakes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from resnetlab.data.class_names import spoken
from resnetlab.errors import printable
from resnetlab.evaluation.answers import TOP, Answers, OfClass
from resnetlab.evaluation.calibration import BINS, bins, expected_calibration_error
from resnetlab.evaluation.certainty import interval_of_error
from resnetlab.evaluation.evaluate import EvaluationSet
from resnetlab.evaluation.scores import SCORES, Scored
from resnetlab.files import csv_writer, replacing, write_json
from resnetlab.inference.explain import explain
from resnetlab.models.modelfile import Model
from resnetlab.models.onnxfile import OnnxModel
from resnetlab.report.explanations import draw_explanations
from resnetlab.report.figures import PLAIN

TABLES = "metrics.json", "per_class.csv", "predictions.csv"
FILES = (*TABLES, SCORES, "confusion.png", "mistakes.png", "explained.png", "reliability.png")
MISTAKES = 24
EXPLAINED = 8  # mistakes
ACROSS = 6
WITH_NUMBERS = 30  # classes
WITH_NAMES = 60


def write_tested(folder: Path, model: Model | OnnxModel, images: EvaluationSet, scored: Scored) -> None:
    """Write all files of a model's evaluation; the scores last."""
    title = f"{model.architecture.label} on {images.data}, {images.split}, {scored.about['protocol']}"
    about = {"title": title, **scored.about, "preprocessing": model.fit.describe()}
    pixels = lambda k: images.pixels_of(scored.names[k])
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation(folder, scored, pixels, about)
    if isinstance(model, Model):
        draw_explained_mistakes(model, scored, pixels, folder / "explained.png")
    scored.save(folder / SCORES)


def write_evaluation(
    folder: Path, scored: Scored, pixels: Callable[[int], np.ndarray], about: dict[str, Any]
) -> None:
    """Write all files but the scores; `pixels` returns the network's input for an image."""
    answers, names = scored.answers(), scored.names
    uncalibrated = scored.answers(calibrated=False) if scored.temperature != 1 else None
    interval = interval_of_error(answers.errors, len(answers))
    numbers: dict[str, Any] = {"top1_error": answers.error, "errors": answers.errors, "images": len(answers)}
    numbers |= {"accuracy": 100 - answers.error, "top1_error_95_wilson": [interval.low, interval.high]}
    numbers |= {"macro_f1": answers.macro_f1, "balanced_accuracy": answers.balanced_accuracy}
    numbers |= {} if answers.auc is None else {"auc": answers.auc}
    numbers |= {"expected_calibration_error": expected_calibration_error(answers)}
    if uncalibrated:
        numbers |= {"expected_calibration_error_before_temperature": expected_calibration_error(uncalibrated)}
    if len(answers.classes) > TOP:
        numbers |= {"top5_error": answers.top5_error, "top5_errors": answers.top5_errors}
    write_json(folder / "metrics.json", about | numbers)
    with csv_writer(folder / "per_class.csv") as writer:
        writer.writerow(["class", "images", "predicted", "right", "precision", "recall", "f1"])
        for row in answers.by_class():
            shares = ["" if share is None else f"{share:.6f}" for share in (row.precision, row.recall, row.f1)]
            writer.writerow([row.name, row.images, row.predicted, row.right, *shares])
    with csv_writer(folder / "predictions.csv") as writer:
        ranks = range(1, 1 + answers.ranked.shape[1])
        writer.writerow(
            ["image", "class", *(f"{kind}_{rank}" for rank in ranks for kind in ("class", "probability"))]
        )
        for k, name in enumerate(names):
            cells = [
                cell
                for number, share in zip(answers.ranked[k], answers.probabilities[k], strict=True)
                for cell in (answers.classes[number], f"{share:.6f}")
            ]
            writer.writerow([name, answers.classes[answers.labels[k]], *cells])
    draw_confusion(answers, folder / "confusion.png", str(about.get("title", "")))
    draw_mistakes(answers, names, pixels, folder / "mistakes.png")
    draw_reliability(answers, folder / "reliability.png", str(about.get("title", "")), uncalibrated)


@rc_context(PLAIN)
def draw_reliability(answers: Answers, path: Path, title: str = "", before: Answers | None = None) -> None:
    """Draw accuracy over confidence (a reliability diagram), with the number of images of each range below.

    `before` are the answers without the temperature, if there is one.
    """
    found = bins(answers)
    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--", label="as sure as right")
    if before is not None:
        plain = bins(before)
        points = [b.confidence for b in plain], [b.accuracy for b in plain]
        above.plot(*points, "o-", color="#ff7f0e", alpha=0.6, label="before the temperature")
    above.plot(
        [b.confidence for b in found], [b.accuracy for b in found], "o-", color="#1f77b4", label="this network"
    )
    above.set_ylabel("share that is right")
    above.legend(fontsize=8)
    below.bar([b.confidence for b in found], [b.images for b in found], width=0.8 / BINS, color="#1f77b4")
    below.set_ylabel("images")
    below.set_xlabel("probability of the likeliest class")
    below.set_xlim(0, 1)
    said = f"expected calibration error {expected_calibration_error(answers):.1f} points of {len(answers):,} images"
    said += f"\n{expected_calibration_error(before):.1f} before the temperature" if before is not None else ""
    above.set_title(f"{title}\n{said}".strip(), fontsize=9)
    _save(figure, path)


@rc_context(PLAIN)
def draw_confusion(answers: Answers, path: Path, title: str = "") -> None:
    """Draw the confusion matrix: colours are shares of the row's images, numbers are images.

    Classes without images and without predictions are not drawn.
    """
    matrix = answers.confusion()
    drawn = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    matrix, count = matrix[np.ix_(drawn, drawn)], len(drawn)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [spoken(answers.classes[k]).split(" (")[0].split(",")[0][:24] for k in drawn]
    side = min(16.0, max(4.0, 0.42 * count if count <= WITH_NUMBERS else 0.22 * count))
    longest = max(map(len, names)) * 0.075 if count <= WITH_NAMES else 0.3
    figure = Figure(figsize=(side + longest + 1.6, side + longest + 0.9), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if count <= WITH_NAMES:
        axis.set_xticks(range(count), names, rotation=90, fontsize=8)
        axis.set_yticks(range(count), names, fontsize=8)
    if count <= WITH_NUMBERS:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{matrix[row, column]}"
            size = 8 if len(text) < 4 else 6.5
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true class")
    axis.set_title(f"{title}\ntop-1 error {answers.error:.2f} % of {len(answers):,} images".strip(), fontsize=9)
    figure.colorbar(image, ax=axis, shrink=0.6, label="share of the class's images")
    _save(figure, path)


@rc_context(PLAIN)
def draw_mistakes(answers: Answers, names: Sequence[str], pixels: Callable[[int], np.ndarray], path: Path) -> None:
    """Draw the wrongly classified images with the most confident predictions, as the network sees them."""
    wrong = answers.confident_mistakes(MISTAKES)
    rows = max(1, -(-len(wrong) // ACROSS))
    figure = Figure(figsize=(2.1 * ACROSS, 2.75 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, ACROSS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, k in zip(axes, wrong, strict=False):
        shown = pixels(k)
        grey = shown.shape[2] == 1
        axis.imshow(shown[..., 0] if grey else shown, cmap=colormaps["gray"] if grey else None)
        truth, taken = (spoken(answers.classes[j])[:26] for j in (answers.labels[k], answers.ranked[k, 0]))
        text = f"{_short(names[k])}\nis {truth}\ntaken for {taken}, {answers.probabilities[k, 0]:.0%}"
        axis.set_title(text, fontsize=7)
    shown_ = f"The {len(wrong)} most confident of {answers.errors:,} mistakes" if wrong else "No mistakes"
    figure.suptitle(shown_, fontsize=10)
    _save(figure, path)


def draw_explained_mistakes(model: Model, scored: Scored, pixels: Callable[[int], np.ndarray], path: Path) -> None:
    """Draw where the network sees the wrong and the true class of its most confident mistakes, if it made any."""
    answers = scored.answers()
    wrong = answers.confident_mistakes(EXPLAINED)
    if not wrong:
        path.unlink(missing_ok=True)
        return
    pairs = [(int(answers.ranked[k, 0]), int(answers.labels[k])) for k in wrong]
    explained = explain(model, np.stack([pixels(k) for k in wrong]), pairs)
    titles = [
        [scored.names[k][-34:], *(f"{what} {spoken(name)[:20]} {share:.0%}" for what, name, share in zip(
            ("taken for", "is"), each.classes, each.probabilities, strict=True))]
        for k, each in zip(wrong, explained, strict=True)
    ]  # fmt: skip
    draw_explanations(explained, titles, path, f"The {len(wrong)} most confident mistakes")


def worst_first(rows: list[OfClass]) -> list[OfClass]:
    """Sort by F1, lowest first; classes without images last."""
    return sorted(rows, key=lambda row: (not row.images, row.f1 if row.f1 is not None else 2.0))


def _short(name: str) -> str:
    """The end of the path: folder and file name, because file names repeat in different classes."""
    path = Path(name)
    return printable(f"{path.parent.name}/{path.name}"[-32:].lstrip("/"))


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
