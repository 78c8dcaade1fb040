"""The catalogue of `resnetlab reproduce`: the paper's figures and tables, and further studies, by name."""

from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.experiments import cost, depth, detection, imagenet, table1
from resnetlab.experiments.experiment import Entry, Experiment
from resnetlab.experiments.study import experiment_of
from resnetlab.experiments.why import figure7, gradients, landscape, lesions, overfit, refinement

WHY = (figure7, gradients, lesions, refinement, landscape, overfit)
ENTRIES: tuple[Entry, ...] = (
    *table1.STUDIES,
    *depth.EXPERIMENTS,
    *imagenet.EXPERIMENTS,
    *detection.EXPERIMENTS,
    *cost.STUDIES,
    *(entry for module in WHY for entry in module.EXPERIMENTS),
)
CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}


def find(name: str) -> Entry:
    """An entry by name.

    Raises:
        ResnetlabError: unknown; the message has similar names.
    """
    if name not in CATALOGUE:
        raise ResnetlabError(f"unknown experiment {name!r}: {near_matches(name, CATALOGUE)}")
    return CATALOGUE[name]


def inspections() -> dict[str, Experiment]:
    """The experiments that measure networks for classification, by name: what `analyse` offers."""
    found = filter(None, map(experiment_of, ENTRIES))
    return {each.name: each for each in found if each.inspection and each.inspection.subject is None}
