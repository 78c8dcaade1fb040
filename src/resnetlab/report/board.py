"""A run's curves for TensorBoard, from its metrics."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnetlab.errors import ResnetlabError
from resnetlab.experiments.cell import curve


@contextmanager
def board(folder: Path | None) -> Iterator[Callable[[], None]]:
    """What writes the reports that came since it was last called to `folder/tensorboard`; nothing without a folder.

    Raises:
        ResnetlabError: TensorBoard is not installed.
    """
    if folder is None:
        yield lambda: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ResnetlabError("--tensorboard needs the extra `tensorboard`: uv run --extra tensorboard ...") from None
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)  # all of it is written again
    written, size = 0, -1
    writer = None

    def write() -> None:
        nonlocal written, size, writer
        metrics = folder / "metrics.jsonl"
        if not metrics.exists() or metrics.stat().st_size == size:
            return
        size = metrics.stat().st_size
        writer = writer or SummaryWriter(folder / "tensorboard")
        points = curve(folder)
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
