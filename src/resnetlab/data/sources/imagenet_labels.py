"""Labels of ImageNet's validation images (one flat folder) from the commonly used label files."""

import csv
from pathlib import Path

from resnetlab.data.class_names import imagenet
from resnetlab.errors import ResnetlabError

KAGGLE = "LOC_val_solution.csv"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
SYNSETS = ("imagenet_2012_validation_synset_labels.txt", "val_labels.txt", "val.txt")
EXPECTED = f"{KAGGLE}, {SYNSETS[0]} (or {SYNSETS[1]}, with a WordNet id on each line), or the devkit's {GROUND_TRUTH}"


def validation_labels(root: Path, place: Path) -> dict[str, str]:
    """WordNet ids of the images in `place`, by file name without suffix.

    Searches `root`, its devkit folders and the parent folders for Kaggle's solution, a list of WordNet ids in the
    order of the images, or the devkit's ground truth with its `meta.mat`.

    Raises:
        ResnetlabError: no label file, or it does not match the images.
    """
    stems = sorted(path.stem for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    path = _find(root, (KAGGLE, *SYNSETS, GROUND_TRUTH))
    if path is None:
        raise ResnetlabError(f"{place} has neither class folders nor a label file; expected {EXPECTED}")
    if path.name == KAGGLE:
        with path.open(newline="") as file:
            labels = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    else:
        lines = path.read_text().split("\n")
        words = [line.split() for line in lines if line.strip()]
        if all(len(line) == 2 for line in words):  # name and id
            labels = {Path(name).stem: label for name, label in words}
        else:
            ids = [line[0] for line in words]
            labels = dict(zip(stems, _from_numbers(ids, root) if path.name == GROUND_TRUTH else ids, strict=False))
            if len(ids) != len(stems):
                raise ResnetlabError(f"{path} has {len(ids)} labels, {place} has {len(stems)} images")
    if unknown := sorted(set(labels.values()) - imagenet().keys()):
        raise ResnetlabError(f"{path}: {unknown[0]!r} is not a WordNet id of ImageNet's 1000 classes")
    return labels


def _from_numbers(numbers: list[str], root: Path) -> list[str]:
    """Convert the devkit's class numbers to WordNet ids; `meta.mat` lists them."""
    from scipy.io import loadmat  # comes with scikit-learn

    meta = _find(root, (META,))
    if meta is None:
        raise ResnetlabError(f"{GROUND_TRUTH} needs {META} of the same devkit in the same folder")
    synsets = loadmat(meta, squeeze_me=True)["synsets"]
    ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    return [ids[int(number)] for number in numbers]


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    places = [root, *root.glob("*devkit*"), *root.glob("*devkit*/data"), *root.resolve().parents[:3]]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)
