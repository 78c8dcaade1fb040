"""`resnetlab predict`."""

import json as json_lines
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.choices import EngineName, EnginePrecision, ProtocolName
from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, counted, say, watched
from resnetlab.cli.option_groups import DetectionSettings, InferenceSettings, Outputs
from resnetlab.errors import ResnetlabError, printable
from resnetlab.files import refuse_inside

if TYPE_CHECKING:
    import torch

    from resnetlab.inference.predict import Prediction, Unreadable
    from resnetlab.models.modelfile import Model
    from resnetlab.report.prediction_files import Marked


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted, and how."""

    top: int | None = None
    """Classes per image. Default: 5."""
    unsure: float | None = None
    """Mark images whose likeliest class has a lower probability than this, from 0 to 1."""
    explain: Path | None = None
    """Write pictures to this folder that show where the network sees the two likeliest classes."""
    sort_into: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")] = None
    """Link the images into folders by class in this folder; unsure and unfamiliar ones into folders of their own."""
    copy: bool = False
    """Copy the images into the folders of --sort-into in place of links."""
    protocol: ProtocolName = "center"
    """Views of each image whose scores are averaged; see `resnetlab evaluate`."""
    engine: EngineName | None = None
    """Default: torch, or onnxruntime for an ONNX file."""
    precision: EnginePrecision = "auto"
    """auto uses bfloat16 on hardware with matrix units for it."""


@command(name="predict")
def predict_(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER", help_behavior_hint="")
    ],
    /,
    *,
    to: Outputs = Outputs(),  # noqa: B008 -- frozen
    what: PredictionOptions = PredictionOptions(),
    settings: InferenceSettings = InferenceSettings(),  # noqa: B008 -- frozen
) -> None:
    """Print the most likely classes of images, or the objects in them, with the preprocessing of the model file.

    Example: resnetlab predict runs/photos new --unsure 0.6

    Args:
        model: A run folder, a model file, weights of another library, or an ONNX file from `resnetlab export`.
        images: Image files, and folders that are searched at any depth.
        to: Where the predictions go.
        what: What is predicted, and how.
        settings: How the network is run.
    """
    at_least_one(settings, what)
    from resnetlab.models.modelfile import task_of
    from resnetlab.models.published import located

    model = located(model)
    if task_of(model) == "detection":
        _find(model, images, to, what, settings)
        return
    from resnetlab.inference.predict import Unreadable, find_images
    from resnetlab.report.prediction_files import Marked, Sorter, write_predictions

    tables = to.tables
    if to.folder:
        raise ResnetlabError(f"`out={to.folder}`: a table ends in .csv or .json; pictures are for detectors")
    _refuse(model, what, settings)
    paths = find_images(images)
    for option, folder in (("explain", what.explain), ("sort_into", what.sort_into)):
        if folder:
            refuse_inside(folder, paths, option)
    sorter = Sorter(what.sort_into, paths, what.copy) if what.sort_into else None
    predicting = _Predicting.of(model, what, settings)
    found, unreadable, began = list[Marked](), list[Unreadable](), time.perf_counter()
    tell = complain if to.json else say
    for each in watched(predicting.predictions(paths), "predicting", len(paths), aside=to.json):
        if isinstance(each, Unreadable):
            if settings.on_bad == "stop":
                raise ResnetlabError(each.reason)
            unreadable.append(each)
            complain(each.reason)
            continue
        found.append(Marked(each, None if what.unsure is None else each.probabilities[0] < what.unsure))
        if to.json:
            print(json_lines.dumps(found[-1].to_json()))
        elif not tables:
            say(_in_words(found[-1]))
        if sorter:
            sorter.add(found[-1])
    seconds = time.perf_counter() - began
    for path in tables:
        write_predictions(path, found)
    if what.explain:
        classes = {each.prediction.path: each.prediction.classes[:EXPLAINED] for each in found}
        tell(_explain(predicting, classes, what.explain, settings, aside=to.json))
    counts = Counter(dict.fromkeys(found[0].marks if found else (), 0))
    counts.update(name for each in found for name, holds in each.marks.items() if holds)
    marks = "".join(f", {count:,} {PHRASES[name]}" for name, count in counts.items())
    places = ", ".join(map(str, (*tables, *([what.sort_into] if what.sort_into else []))))
    speed = f"{seconds:.1f} s, {len(found) / seconds:.1f} images/s ({predicting.about})"
    if found:
        tell(f"{counted(len(found), 'image')}{marks} in {speed}" + (f": {places}" if places else ""))
    if unreadable and settings.on_bad is None:
        raise ResnetlabError(f"{len(unreadable):,} of {len(paths):,} files could not be read; they are named above")


EXPLAINED = 2  # classes
PHRASES = {"unsure": "unsure", "unfamiliar": "unlike the training images"}


@dataclass(frozen=True)
class _Predicting:
    """A model that is ready to predict; `model` is the network itself, where it is needed."""

    predictions: "Callable[[list[Path]], Iterator[Prediction | Unreadable]]"
    about: str
    device: "torch.device"
    model: "Model | None"

    @classmethod
    def of(cls, path: Path, what: PredictionOptions, settings: InferenceSettings) -> "_Predicting":
        import torch

        from resnetlab.inference.engines import open_engine, settle
        from resnetlab.inference.predict import predict
        from resnetlab.models.importing import read_model
        from resnetlab.runs.settings import choose_device
        from resnetlab.tasks.several_views import predict_by_protocol

        top, workers = what.top or 5, settings.workers
        on_torch = (what.engine or ("onnxruntime" if path.suffix == ".onnx" else "torch")) == "torch"
        device = choose_device("cpu" if settings.device == "auto" and not on_torch else settings.device)
        model = read_model(path) if what.explain or what.protocol != "center" else None
        if model is not None and what.protocol != "center":
            name, precision = what.protocol, settle(what.precision, device)
            if settings.threads:
                torch.set_num_threads(settings.threads)

            def by_protocol(paths: list[Path]) -> "Iterator[Prediction | Unreadable]":
                return predict_by_protocol(model, paths, name, device, precision, top=top, workers=workers)

            return cls(by_protocol, f"{model.network.architecture.label}, {name}, {precision}", device, model)
        engine = open_engine(
            model or path, what.engine, device=device, precision=what.precision, threads=settings.threads
        )
        size = settings.images_per_batch(device)

        def singly(paths: list[Path]) -> "Iterator[Prediction | Unreadable]":
            return predict(engine, paths, top=top, batch_size=size, workers=workers)

        return cls(singly, engine.about, device, model)


def _refuse(model: Path, what: PredictionOptions, settings: InferenceSettings) -> None:
    """
    Raises:
        ResnetlabError: options that do not go together, or values out of range.
    """
    if what.unsure is not None and not 0 < what.unsure <= 1:
        raise ResnetlabError(f"`unsure={what.unsure:g}`: it must be more than 0 and at most 1")
    if what.copy and not what.sort_into:
        raise ResnetlabError("`copy` takes no effect without `sort_into`")
    needs = {"explain": what.explain is not None, f"protocol={what.protocol}": what.protocol != "center"}
    for name, holds in needs.items():
        if holds and (what.engine not in (None, "torch") or model.suffix == ".onnx"):
            raise ResnetlabError(f"`{name}` needs the network itself: a model file or a run, with the engine torch")
    if what.protocol != "center" and what.explain:
        raise ResnetlabError(f"`explain` shows single views; leave `protocol={what.protocol}` out")
    if what.protocol != "center" and settings.batch_size:
        raise ResnetlabError(f"`batch_size={settings.batch_size}` takes no effect with `protocol={what.protocol}`")
    if what.explain and what.explain.is_file():
        raise ResnetlabError(f"{what.explain} is a file; give a folder for the pictures with `explain`")


def _in_words(found: "Marked") -> str:
    """The line of one image."""
    from resnetlab.data.class_names import spoken

    ranked = zip(found.prediction.classes, found.prediction.probabilities, strict=True)
    marks = "".join(f"{PHRASES[name]}: " for name, holds in found.marks.items() if holds)
    return f"{printable(str(found.prediction.path))}: {marks}" + ", ".join(
        f"{spoken(name)} {share:.1%}" for name, share in ranked
    )


def _find(
    model: Path, images: tuple[Path, ...], to: Outputs, what: PredictionOptions, settings: InferenceSettings
) -> None:
    """Find objects with a detector."""
    from resnetlab.cli.detecting import LIKELY, find

    usual = PredictionOptions()
    given = {name: value for name, value in vars(what).items() if value != getattr(usual, name)}
    given |= {"batch_size": settings.batch_size} if settings.batch_size else {}
    for name in given:
        raise ResnetlabError(f"`{name}` takes no effect with a detector; see `resnetlab detect --help`")
    how = DetectionSettings(settings.device, settings.threads, settings.workers, settings.on_bad)
    find((model,), images, to, (f"score={LIKELY}",), how)


def _explain(
    predicting: _Predicting,
    classes: "Mapping[Path | None, tuple[str, ...]]",
    folder: Path,
    how: InferenceSettings,
    *,
    aside: bool,
) -> str:
    """Write a picture for each image: the image, and the maps of its likeliest classes. Says how many."""
    import numpy as np

    from resnetlab.files import places_under
    from resnetlab.inference.explain import explain
    from resnetlab.inference.predict import read_batches
    from resnetlab.report.explanations import class_titles, draw_explanations

    model, device = predicting.model, predicting.device
    assert model is not None  # noqa: S101 -- for the type checker
    model.network.to(device)
    size, paths = how.images_per_batch(device), [path for path in classes if path is not None]
    places, made = places_under(folder, paths, ".png"), 0
    numbers = {name: number for number, name in reversed(list(enumerate(model.classes)))}
    batches = read_batches(model.preprocessing.fit, paths, size, how.workers)
    for batch in watched(batches, "explaining", -(-len(paths) // size), aside=aside):
        read = [(path, pixels) for path, pixels in batch if not isinstance(pixels, str)]
        if not read:
            continue
        chosen = [[numbers[name] for name in classes[path]] for path, _ in read]
        found = explain(model, np.stack([pixels for _, pixels in read]), chosen)
        for (path, _), each in zip(read, found, strict=True):
            draw_explanations([each], [class_titles(each, str(path))], places[path])
            made += 1
    return f"{counted(made, 'picture')} of where the network sees the likeliest classes: {folder}"
