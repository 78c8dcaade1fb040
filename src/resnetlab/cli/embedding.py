"""`resnetlab embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from resnetlab.cli.command import command
from resnetlab.cli.common import at_least_one, complain, ends_in, say, watched
from resnetlab.cli.option_groups import InferenceSettings
from resnetlab.errors import ResnetlabError
from resnetlab.files import csv_writer, replacing

if TYPE_CHECKING:
    import numpy as np


@command
def embed(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGES-or-FOLDER", help_behavior_hint="")
    ],
    /,
    *,
    out: Path,
    settings: InferenceSettings = InferenceSettings(),  # noqa: B008 -- frozen
) -> None:
    """Write the features of images (the input of the last layer), an array (images, features), and their paths.

    Example: resnetlab embed runs/photos images --out features.npz

    Args:
        model: A run folder, a model file, or weights of another library.
        images: Image files, and folders that are searched at any depth.
        out: An .npz file with `features` (float32) and `paths`, or a .csv file.
        settings: How the network is run.
    """
    at_least_one(settings)
    ends_in("out", out, ".npz", ".csv")
    import numpy as np

    from resnetlab.inference.engines import open_engine
    from resnetlab.inference.predict import find_images, score
    from resnetlab.runs.settings import choose_device

    paths = find_images(images)
    where = choose_device(settings.device)
    threads = settings.threads
    engine = open_engine(model, "torch", device=where, precision="float32", threads=threads, features=True)
    features, read, unreadable = [], [], 0
    found = score(engine, paths, settings.images_per_batch(where), settings.workers)
    for path, row in watched(found, "embedding", len(paths)):
        if isinstance(row, str):
            if settings.on_bad == "stop":
                raise ResnetlabError(row)
            unreadable += 1
            complain(row)
        else:
            features.append(row)
            read.append(str(path))
    if features:
        _write_features(out, read, np.stack(features))
        say(f"{out}: {len(features[0]):,} features of {len(features):,} images ({engine.about})")
    if unreadable and settings.on_bad is None:
        raise ResnetlabError(f"{unreadable:,} of {len(paths):,} files could not be read; they are named above")


def _write_features(path: Path, names: list[str], features: "np.ndarray") -> None:
    import numpy as np

    if path.suffix == ".npz":
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, features=features, paths=np.array(names))
        return
    with csv_writer(path) as writer:
        writer.writerow(["image", *(f"feature_{k}" for k in range(features.shape[1]))])
        writer.writerows([name, *map(str, row.tolist())] for name, row in zip(names, features, strict=True))
