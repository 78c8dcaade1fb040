"""Labels of ImageNet's validation images (one flat folder) from the commonly used label files."""

import csv
import io
from pathlib import Path

from resnetlab.data.class_names import imagenet
from resnetlab.errors import ResnetlabError
from resnetlab.files import read_regular, read_text, resolved

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
        labels = _of_kaggle(path)
    else:
        lines = read_text(path).split("\n")
        words = [line.split() for line in lines if line.strip()]
        if words and all(len(line) == 2 for line in words):  # name and id
            labels = {Path(name).stem: label for name, label in words}
        else:
            ids = [line[0] for line in words]
            labels = dict(zip(stems, _from_numbers(ids, root) if path.name == GROUND_TRUTH else ids, strict=False))
            if len(ids) != len(stems):
                raise ResnetlabError(f"{path} has {len(ids)} labels, {place} has {len(stems)} images")
    if unknown := sorted(set(labels.values()) - imagenet().keys()):
        raise ResnetlabError(f"{path}: {unknown[0]!r} is not a WordNet id of ImageNet's 1000 classes")
    return labels


def _of_kaggle(path: Path) -> dict[str, str]:
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        if [name.strip() for name in next(rows, [])] != ["ImageId", "PredictionString"]:
            raise ResnetlabError(f"{path} does not begin with ImageId,PredictionString")
        labels = {row[0]: row[1].split()[0] for row in rows if row}
    except (csv.Error, IndexError) as error:
        raise ResnetlabError(f"{path}, line {rows.line_num} is no image and its label: {error}") from None
    return labels


def _from_numbers(numbers: list[str], root: Path) -> list[str]:
    """Convert the devkit's class numbers to WordNet ids; `meta.mat` lists them."""
    from scipy.io import loadmat  # comes with scikit-learn

    meta = _find(root, (META,))
    if meta is None:
        raise ResnetlabError(f"{GROUND_TRUTH} needs {META} of the same devkit in the same folder")
    try:
        synsets = loadmat(io.BytesIO(read_regular(meta)), squeeze_me=True)["synsets"]
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # SciPy raises anything for damaged files
        raise ResnetlabError(f"{meta} is damaged, or no list of ImageNet's classes: {error!r}") from None
    try:
        return [ids[int(number)] for number in numbers]
    except (KeyError, ValueError) as error:
        raise ResnetlabError(f"{GROUND_TRUTH} has a label that is no class number of {meta}: {error}") from None


def _find(root: Path, names: tuple[str, ...]) -> Path | None:
    places = [root, *root.glob("*devkit*"), *root.glob("*devkit*/data"), *resolved(root).parents[:3]]
    return next((place / name for name in names for place in places if (place / name).is_file()), None)
