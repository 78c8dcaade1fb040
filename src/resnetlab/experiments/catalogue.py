"""The catalogue of `resnetlab reproduce`: the paper's figures and tables, and further studies, by name."""

from resnetlab.errors import ResnetlabError, near_matches
from resnetlab.experiments import cost, depth, imagenet, table1
from resnetlab.experiments.experiment import Entry

CATALOGUE: dict[str, Entry] = {
    entry.name: entry for entry in (*table1.STUDIES, *depth.EXPERIMENTS, *imagenet.EXPERIMENTS, *cost.STUDIES)
}


def find(name: str) -> Entry:
    """An entry by name.

    Raises:
        ResnetlabError: unknown; the message has similar names.
    """
    if name not in CATALOGUE:
        raise ResnetlabError(f"unknown experiment {name!r}: {near_matches(name, CATALOGUE)}")
    return CATALOGUE[name]
