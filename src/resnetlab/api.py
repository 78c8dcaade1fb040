"""Training, testing and prediction from Python, with the names, defaults and errors of the command line."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args, get_origin, get_type_hints, overload

from PIL import Image
from rich.console import Console

from resnetlab.choices import VERSIONS, DeviceName, Kernels, OnBad, ProtocolName, SplitName, StrideOn, Switch
from resnetlab.cli.common import at_least_one, console, watched
from resnetlab.cli.terminal import Monitor
from resnetlab.errors import ResnetlabError, near_matches, refuse_below_one, refuse_other_words, shortened
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.certainty import Interval, error_in_words, interval_of_error
from resnetlab.evaluation.evaluate import evaluate as scores_of
from resnetlab.evaluation.evaluate import images_for
from resnetlab.evaluation.protocol import protocol as protocol_named
from resnetlab.evaluation.scores import Scored
from resnetlab.inference.predict import AnyImage, Prediction, Unreadable, is_single, predict
from resnetlab.models.importing import read_model
from resnetlab.models.modelfile import CLASSIFICATION, Model, load, task_of
from resnetlab.runs.request import Request, plan
from resnetlab.runs.run import run
from resnetlab.runs.settings import Settings, choose_device
from resnetlab.runs.stored import read_curve, read_result, read_settings
from resnetlab.training.recipe import Balance, Precision
from resnetlab.training.resolve import RecipeOptions


class TrainOptions(TypedDict, total=False):
    """The options of `resnetlab train`; `set` has recipe fields by name."""

    network: str
    from_: Path | str
    shortcut: Literal["A", "B", "C"]
    stride_on: StrideOn
    narrow: int
    data_dir: Path | str
    on_bad: OnBad
    group_by: str
    recipe: str
    epochs: int
    iterations: int
    batch_size: int
    image_size: int
    lr: float
    weight_decay: float
    validation: float
    patience: int
    precision: Precision
    freeze: str
    balance: Balance
    accumulate: int
    set: dict[str, Any]
    out: Path | str
    seed: int
    device: DeviceName
    threads: int
    workers: int
    compile: Switch
    capture: Switch
    recompute: Switch
    kernels: Kernels


RECIPE = {"recipe": "name", "lr": "learning_rate"} | {
    name: name
    for name in (field.name for field in fields(RecipeOptions))
    if name not in ("name", "fields", "learning_rate")
}
"""Options of the recipe, and their fields in `RecipeOptions`."""


ELSEWHERE = dict.fromkeys(("folds", "task", "detector", "tensorboard"), "only the command line has it")
ELSEWHERE |= {"learning_rate": "it is `lr`", "pretrained": 'give `from_="scratch"` or the name of weights'}
"""What is said of options that have another place or name."""


def train(data: Path | str, *, progress: bool = True, **options: Unpack[TrainOptions]) -> "Run":
    """Train a classifier, as `resnetlab train` does, and return the finished run.

    After an interruption the same call continues, and a finished run is not run again. With `progress`, what is done
    is printed, in notebooks too.

    Raises:
        ResnetlabError: an unknown option, one without effect, data that cannot be read.
        DivergedError: the loss became infinite or NaN; try a lower learning rate (`lr`).
        Interrupted: on Ctrl-C, after the run was saved.
    """
    if unknown := sorted(options.keys() - TrainOptions.__annotations__.keys()):
        hint = ELSEWHERE.get(unknown[0]) or near_matches(unknown[0], TrainOptions.__annotations__)
        raise ResnetlabError(f"train has no option {unknown[0]!r}: {hint}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    hints = get_type_hints(TrainOptions)
    for name, value in given.items():
        if hints[name] == Switch and isinstance(value, bool):
            given[name] = "yes" if value else "no"
        _check(name, given[name], hints[name])
    assignments = tuple(f"{name}={_as_text(value)}" for name, value in given.get("set", {}).items())
    recipe = RecipeOptions(
        **{field: given[name] for name, field in RECIPE.items() if name in given}, fields=assignments
    )
    names = [field.name for field in fields(Settings)]
    settings = Settings(**{name: given[name] for name in names if name in given})
    at_least_one(recipe, settings, narrow=given.get("narrow"))
    variant = {"shortcut": given.get("shortcut"), "narrow": given.get("narrow")}
    variant["version"] = VERSIONS[given["stride_on"]] if "stride_on" in given else None
    asked = Request(
        data=str(data),
        task="classification",
        network=given.get("network"),
        start=_path(given.get("from_")),
        variant=variant,
        recipe=recipe,
        seed=given.get("seed", 0),
        out=_path(given.get("out")),
        on_bad=given.get("on_bad"),
        data_dir=_path(given.get("data_dir")),
        group_by=given.get("group_by"),
        reads_files="workers" in given,
        device=settings.device,
    )
    planned = plan(asked)
    shown = console if progress else Console(quiet=True)
    with Monitor(shown) as monitor:
        for line in planned.about:
            monitor.say(line)
        for each in run(planned.spec, planned.folder, settings, planned.dataset):
            monitor.show(planned.spec.architecture.label, each)
    return Run(planned.folder)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What a network says of test images: `answers` has the classes by image, and everything that comes of them."""

    scored: Scored

    @property
    def answers(self) -> Answers:
        """The likeliest classes of each image; precision and recall by class; the confusion matrix."""
        return self.scored.answers()

    @property
    def error(self) -> float:
        """Top-1 error, percent."""
        return self.answers.error

    @property
    def accuracy(self) -> float:
        """Percent."""
        return 100 - self.error

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the error, percent (Wilson)."""
        return interval_of_error(self.answers.errors, len(self.answers))

    def __str__(self) -> str:
        return f"{error_in_words(self.answers)}, {self.scored.about['protocol']}"

    def __repr__(self) -> str:
        return f"Evaluation({self})"


def evaluate(
    model: Model | os.PathLike[str] | str,
    data: Path | str,
    *,
    protocol: ProtocolName = "center",
    split: SplitName | None = None,
    on_bad: OnBad = "stop",
    device: DeviceName = "auto",
    workers: int | None = None,
    progress: bool = True,
    data_dir: Path | str = "data",
) -> Evaluation:
    """Test a model, or what `read_model` reads, on the images of `data`, as `resnetlab evaluate` does.

    `protocol` is one of the paper's ways of testing, `split` which images: "test" by default, or "validation",
    "train", "all". `on_bad` is what is done with files that cannot be read: "stop" or "skip". `data_dir` has data
    sets by name.

    Raises:
        ResnetlabError: the model or data cannot be read or do not fit each other.
    """
    refuse_other_words("split", split or "test", get_args(SplitName))
    refuse_other_words("on_bad", on_bad, get_args(OnBad))
    refuse_other_words("device", device, get_args(DeviceName))
    refuse_below_one(workers=workers)
    tested = model if isinstance(model, Model) else read_model(model)
    way = protocol_named(protocol, tested.fit)
    images = images_for(tested, str(data), Path(data_dir), split, on_bad, workers)
    watch = (lambda items: watched(items, "evaluating", len(images))) if progress else iter
    about = {"model": tested.origin if isinstance(model, Model) else Path(model).name}
    return Evaluation(scores_of(tested, images, way, choose_device(device), watch=watch, about=about)[0])


class Run:
    """A finished run of classification in its folder, for testing and prediction."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if (result := read_result(self.folder)) is None:
            what = "has no finished run; train again with the same options to finish it"
            raise ResnetlabError(f"{folder} {what if self.folder.exists() else 'does not exist'}")
        if (task := task_of(self.folder)) != CLASSIFICATION:
            raise ResnetlabError(f"{folder} is a run of {task}; use the commands `evaluate` and `detect`")
        self.result = result

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __fspath__(self) -> str:
        """The folder: a run can be given wherever a path of a model can."""
        return str(self.folder)

    @property
    def model(self) -> Model:
        """The network with preprocessing, class names and provenance."""
        return load(self.folder)

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The points of the learning curves."""
        return read_curve(self.folder)

    def evaluate(
        self,
        data: Path | str | None = None,
        *,
        protocol: ProtocolName = "center",
        split: SplitName | None = None,
        on_bad: OnBad = "stop",
        device: DeviceName = "auto",
        workers: int | None = None,
        progress: bool = True,
    ) -> Evaluation:
        """Test the network, as `resnetlab evaluate` does; default: on the test images of the data it was trained on.

        Raises:
            ResnetlabError: data that cannot be read or does not fit.
        """
        settings = read_settings(self.folder)
        return evaluate(
            self.folder,
            data or settings["source"],
            protocol=protocol,
            split=split,
            on_bad=on_bad,
            device=device,
            workers=workers,
            progress=progress,
            data_dir=settings["data_dir"],
        )

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is also an iterable of str
        self, images: Path | str | Image.Image, *, top: int = 5
    ) -> Prediction: ...

    @overload
    def predict(self, images: Iterable[AnyImage], *, top: int = 5) -> list[Prediction | Unreadable]: ...

    def predict(
        self, images: AnyImage | Iterable[AnyImage], *, top: int = 5
    ) -> Prediction | list[Prediction | Unreadable]:
        """The `top` classes of one image, or of each of several or of a folder.

        Unreadable ones among several do not stop the others.

        Raises:
            ResnetlabError: a single image cannot be read, or an array is not the pixels of an image.
        """
        found = list(predict(self.folder, images, top=top))
        if not is_single(images):
            return found
        (only,) = found
        if isinstance(only, Unreadable):
            raise ResnetlabError(only.reason)
        return only


def _check(name: str, value: object, kind: Any) -> None:
    """
    Raises:
        ResnetlabError: a value that the option does not take.
    """
    if get_origin(kind) is Literal:
        refuse_other_words(name, value, get_args(kind))
        return
    kinds = get_args(kind) or (kind,) if get_origin(kind) is not dict else (dict,)
    numbers = (int, float) if float in kinds else kinds
    if isinstance(value, bool) or not isinstance(value, numbers):
        raise ResnetlabError(
            f"`{name}={shortened(value)}`: it must be {' or '.join(each.__name__ for each in kinds)}"
        )


def _path(place: Path | str | None) -> Path | None:
    return None if place is None else Path(place)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
