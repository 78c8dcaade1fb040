"""What an experiment would take, as a table."""

from datetime import timedelta

import torch

from resnetlab.experiments.plan import Counted, Planned
from resnetlab.report.tables import Table
from resnetlab.training.provenance import environment


def plan_table(plans: list[Planned], device: torch.device, numbers: Counted, read: bool) -> Table:
    """A row a run, and all of them one after the other; `read` says whether reading of files was measured too."""
    header = ("run", "steps", "training images", "training", "testing", "disk")
    rows: list[tuple[str, ...]] = [
        (p.label, f"{p.steps:,}", f"{p.images:,}", _time(p.training_hours), _time(p.testing_hours), _size(p.disk))
        for p in plans
    ]
    training, testing = sum(p.training_hours for p in plans), sum(p.testing_hours for p in plans)
    total = (f"{len(plans)} runs", f"{sum(p.steps for p in plans):,}", f"{sum(p.images for p in plans):,}")
    rows.append((*total, _time(training), _time(testing), _size(sum(p.disk for p in plans))))
    where = environment(device)["device"]
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    reading = "with reading of files" if read else "without reading of files, for they are not there"
    share = "" if training + testing < 8 else f" Over 8 such devices: {_time((training + testing) / 8)}."
    return Table(
        header,
        rows,
        f"{numbers.name}: {numbers.train:,} training and {numbers.test:,} test images. Expected from the fastest of "
        f"some steps of each network on one {where}{threads}, {reading}, one run at a time: "
        f"{_time(training + testing)}.{share}",
    )


def _time(hours: float) -> str:
    if hours > 48:
        return f"{hours / 24:,.1f} days"
    return str(timedelta(seconds=round(hours * 3600)))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count > 1e9 else f"{count / 1e6:.0f} MB"
