"""Write a run's curves for TensorBoard from its metrics."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnetlab.errors import ResnetlabError
from resnetlab.runs.stored import curve_size, read_curve, tensorboard_folder


@contextmanager
def board(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Yield a function that writes new reports to the run's TensorBoard folder; without `folder` it does nothing.

    Raises:
        ResnetlabError: TensorBoard is not installed.
    """
    if folder is None:
        yield lambda: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ResnetlabError("`tensorboard` needs the extra tensorboard: uv run --extra tensorboard ...") from None
    place = tensorboard_folder(folder)
    shutil.rmtree(place, ignore_errors=True)  # everything is written again
    written, size = 0, -1
    writer = None

    def write() -> None:
        nonlocal written, size, writer
        if (now := curve_size(folder)) in (-1, size):
            return
        size = now
        writer = writer or SummaryWriter(place)
        points = read_curve(folder)
        for point in points[written:]:
            for name, value in point.items():
                if name != "step":
                    writer.add_scalar(name.replace("_", "/", 1), value, point["step"])
        written = len(points)
        writer.flush()

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
