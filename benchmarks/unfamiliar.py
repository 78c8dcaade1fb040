"""How well distances in feature space tell images of other classes from a model's own, and its calibration.

python -m benchmarks.unfamiliar runs/seven seven/ --others unseen/ photos/ --out results/unfamiliar
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int64
from PIL import Image
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from benchmarks.writing import write
from resnetlab.data.dataset import Split
from resnetlab.data.named import DataSource
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.calibration import expected_calibration_error
from resnetlab.inference.engines import open_engine
from resnetlab.inference.predict import find_images, score
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import Model
from resnetlab.models.trust import KNOWN, fit_trust
from resnetlab.training.provenance import environment

Features = Float[np.ndarray, "n features"]


def main(
    model: tyro.conf.Positional[Path],
    data: tyro.conf.Positional[Path],
    others: tuple[Path, ...],
    out: Path | None = None,
) -> None:
    """Measure.

    Args:
        model: A run, or weights; if they have no temperature, it is fitted to every other test image.
        data: The data that it was trained on: a folder, or an .npz file of arrays.
        others: Folders of images of other classes.
        out: Where to write the record, without an ending.
    """
    trained, images = read_model(model), DataSource(str(data)).load(resident=data.suffix == ".npz")
    train, test = (features_of(trained, opened(part)) for part in (images.train, images.test))
    labels = images.test.labels
    if trained.trust is None:  # fit it to every other test image, and test on the others
        logits = torch.from_numpy(logits_of(trained, test))
        trust = fit_trust(logits[::2], labels[::2], torch.from_numpy(test[::2]), some(train))
        trained, test, labels = replace(trained, trust=trust), test[1::2], labels[1::2]
    assert trained.trust is not None
    ways = scorers(trained, train, images.train.labels.numpy())
    rows = []
    for folder in others:
        other = features_of(trained, find_images([folder]))
        row: dict[str, Any] = {"images": folder.name, "number": len(other)}
        row |= {name: round(auc(way(test), way(other)), 4) for name, way in ways.items()}
        found, alarms = (
            trained.trust.distance(torch.from_numpy(part)) > trained.trust.limit for part in (other, test)
        )
        row |= {
            "detected": round(float(found.float().mean()), 4),
            "false_alarms": round(float(alarms.float().mean()), 4),
        }
        rows.append(row)
        print(row, flush=True)
    logits = torch.from_numpy(logits_of(trained, test))
    errors = {
        name: round(expected_calibration_error(Answers.of_logits(logits, labels, trained.classes, temperature)), 3)
        for name, temperature in (("before", 1.0), ("after", trained.temperature))
    }
    answers = Answers.of_logits(logits, labels, trained.classes)
    about = {
        "network": trained.network.architecture.label,
        "weights": trained.origin,
        "data": images.describe(),
        "validation_images": trained.trust.validation,
        "temperature": round(trained.temperature, 4),
        "test_error": round(answers.error, 3),
        "expected_calibration_error": errors,
        "test_images": len(answers),
    }
    print(about)
    if out:
        record = {"about": about, "environment": environment(torch.device("cpu")), "rows": rows}
        write(record, page(record), out)


def opened(split: Split) -> Iterator[Image.Image]:
    """The images of a split."""
    return (split.open(k) for k in range(len(split)))


def some(features: Features) -> torch.Tensor:
    """As many of the training images as a model file keeps."""
    return torch.from_numpy(features[:: -(-len(features) // KNOWN)])


def features_of(model: Model, images: Iterable[Path] | Iterable[Image.Image]) -> Features:
    """The input of the last layer."""
    engine = open_engine(model, precision="float32", features=True)
    return np.stack([found for _, found in score(engine, images, 64) if not isinstance(found, str)])


def logits_of(model: Model, features: Features) -> Features:
    """What the last layer makes of its input."""
    with torch.no_grad():
        logits: np.ndarray = model.network.fc(torch.from_numpy(features)).numpy()
        return logits


def scorers(model: Model, train: Features, labels: Int64[np.ndarray, "n"]) -> dict[str, Any]:
    """Ways to say how strange an image is, from its features; higher is stranger."""
    assert model.trust is not None
    trust = model.trust
    means = np.stack([train[labels == k].mean(0) for k in range(len(model.classes))])
    shared = LedoitWolf().fit(train - means[labels])
    return {
        "distance": lambda x: trust.distance(torch.from_numpy(x)).numpy(),
        "mahalanobis": lambda x: np.min([shared.mahalanobis(x - mean) for mean in means], 0),
        "class_mean": lambda x: -(normalize(x) @ normalize(means).T).max(1),
        "probability": lambda x: -softmax(logits_of(model, x), axis=1).max(1),
        "energy": lambda x: -logsumexp(logits_of(model, x), axis=1),
    }


def auc(own: np.ndarray, other: np.ndarray) -> float:
    """The area under the ROC curve, percent."""
    truth = np.repeat([0, 1], [len(own), len(other)])
    return 100 * float(roc_auc_score(truth, np.concatenate([own, other])))


NAMES = {
    "distance": "fifth-nearest training image",
    "mahalanobis": "Mahalanobis distance",
    "class_mean": "nearest class mean",
    "probability": "highest probability",
    "energy": "energy",
}


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    about, machine = record["about"], record["environment"]
    lines = [
        "# Images of other classes",
        "",
        f"{about['network']}, {about['weights']}, on {about['data']}. Area under the ROC curve, percent, of "
        f"{about['test_images']:,} test images of its own classes against images of others, by five scores: the one "
        "that the model file keeps is the first. `detected` and `false alarms` are the shares of other images and of "
        "test images beyond its limit, which 5 % of the validation images are.",
        "",
        "| other images | number | " + " | ".join(NAMES.values()) + " | detected | false alarms |",
        "| --- " * (len(NAMES) + 4) + "|",
    ]
    for row in record["rows"]:
        shares = (f"{row[name]:.1f}" for name in NAMES)
        alarms = f"{100 * row['detected']:.1f} % | {100 * row['false_alarms']:.1f} %"
        lines.append(f"| {row['images']} | {row['number']:,} | " + " | ".join(shares) + f" | {alarms} |")
    gap = about["expected_calibration_error"]
    lines += [
        "",
        f"Test error {about['test_error']:.2f} %. Expected calibration error on the test images: "
        f"{gap['before']:.1f} points before and {gap['after']:.1f} after the temperature of "
        f"{about['temperature']:.2f}, fitted to {about['validation_images']:,} validation images.",
        "",
        f"{machine['device']}, torch {machine['torch']}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(main)
