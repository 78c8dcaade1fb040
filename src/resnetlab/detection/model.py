"""A detector with all it takes to use it, in one file; and starting weights for one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.network import FasterRCNN, VGGBody
from resnetlab.detection.options import DetectorOptions, from_json
from resnetlab.errors import ResnetlabError
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import Stored, check_count, is_ours, read, task_of, write
from resnetlab.models.starting import Started, refuse_another
from resnetlab.models.tensors import read_tensors

DETECTION = "detection"
TRAINED_SIZES = ("anchor_sizes", "anchor_ratios", "context", "pool_size")
"""Options on which the shapes or the meaning of weights depend."""


@dataclass(frozen=True)
class DetectionModel:
    """A detector, what is done to pixels before (with the size of images), and the classes' names in order."""

    network: FasterRCNN
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        check_count(self.classes, self.network.architecture)

    @property
    def options(self) -> DetectorOptions:
        """The detector's choices."""
        return self.network.options

    def with_test(self, options: dict[str, Any]) -> "DetectionModel":
        """The same weights with other options of testing.

        Raises:
            ResnetlabError: an option is fixed by the training.
        """
        chosen = self.options.with_test(options)
        for module in self.network.modules():
            if hasattr(module, "options"):
                module.options = chosen  # type: ignore[assignment]
        return self


def save_detector(
    network: nn.Module, preprocessing: Preprocessing, classes: tuple[str, ...], provenance: dict[str, Any], path: Path
) -> None:
    """Write the model file of a detector."""
    assert isinstance(network, FasterRCNN)  # noqa: S101 -- for the type checker
    row, tensors = network.architecture, network.state_dict()
    write(Stored(row, preprocessing, classes, provenance, tensors, DETECTION, asdict(network.options)), path)


def load_detector(path: Path | str) -> DetectionModel:
    """The detector in a model file or a run folder, in evaluation mode.

    Raises:
        ResnetlabError: see `models.modelfile.read`; or the weights do not fit.
    """

    def build(stored: Stored) -> DetectionModel:
        network = FasterRCNN(stored.network, from_json(stored.options or {}))
        try:
            network.load_state_dict(stored.tensors)
        except RuntimeError as error:
            raise ResnetlabError(
                f"its weights do not fit its network: {str(error).splitlines()[1].strip()}"
            ) from None
        return DetectionModel(network.eval(), stored.preprocessing, stored.classes, stored.provenance)

    return read(Path(path), DETECTION, build)


def start_detector(source: Path, network: nn.Module, classes: tuple[str, ...]) -> Started:
    """Copy weights into a new detector: of a detector, or of a network for classification (Appendix A).

    Of a detector with other classes, the sibling layers are new.

    Raises:
        ResnetlabError: another network, or a detector with other anchors or another head.
    """
    assert isinstance(network, FasterRCNN)  # noqa: S101 -- for the type checker
    if task_of(source) != DETECTION:
        return _start_from_classifier(source, network)
    model = load_detector(source)
    refuse_another(model.network.architecture, network.architecture, source)
    for name in TRAINED_SIZES:
        theirs, own = (getattr(each.options, name) for each in (model, network))
        if theirs != own:
            raise ResnetlabError(f"{source} has the detector's option {name}={theirs}, and here it is {own}")
    weights, same = model.network.state_dict(), set(model.classes) == set(classes)
    if same:
        weights |= _reordered(weights, [model.classes.index(name) for name in classes])
    _load(network, weights, () if same else ("regions.",), source)
    kept = "kept, because the class names match" if same else "new, because the classes differ"
    return Started(model.preprocessing, f"starts from the detector {source}; its last layers are {kept}")


def _reordered(weights: dict[str, Tensor], order: Sequence[int]) -> dict[str, Tensor]:
    """The sibling layers with the classes in another order; the background stays first."""
    places = torch.tensor([0, *(1 + number for number in order)])
    found = {}
    for name, rows in (("cls_score", 1), ("bbox_pred", 4)):
        for part in ("weight", "bias"):
            value = weights[key := f"regions.{name}.{part}"]
            found[key] = value.reshape(-1, rows, *value.shape[1:])[places].flatten(0, 1)
    return found


def _start_from_classifier(source: Path, network: FasterRCNN) -> Started:
    """All but the last layer; VGG-16 from torchvision's file, with ImageNet's mean and standard deviation."""
    if isinstance(network.body, VGGBody) and not (source.is_dir() or is_ours(source)):
        _load(network.trunk, read_tensors(source), ("classifier.6.",), source)
        usual = Preprocessing.by_channel(Fit.square(224), IMAGENET_MEAN, IMAGENET_STD)
        return Started(usual, f"starts from {source}, a VGG-16 for classification")
    model = read_model(source)
    refuse_another(model.network.architecture, network.architecture, source)
    _load(network.trunk, model.network.state_dict(), ("fc.",), source)
    return Started(model.preprocessing.any_size(), f"starts from {source}, a network for classification")


def _load(module: nn.Module, weights: dict[str, Tensor], without: tuple[str, ...], source: Path) -> None:
    """Copy all weights but those whose names begin with one of `without`, which stay as they are."""
    kept = {name: value for name, value in weights.items() if not name.startswith(without or ("/",))}
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    wrong = [name for name, value in kept.items() if value.shape != shapes.get(name, value.shape)]
    if not wrong:
        missing, unexpected = module.load_state_dict(kept, strict=False)
        wrong = [name for name in missing if not name.startswith(without or ("/",))] + list(unexpected)
    if wrong:
        raise ResnetlabError(f"{source}: its weights do not fit the network, e.g. {wrong[0]}")
