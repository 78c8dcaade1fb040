"""Ensembles from scores that are kept: nothing is run again (Table 5)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from resnetlab.choices import RankedBy
from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.answers import Answers
from resnetlab.evaluation.scores import Scored

MOST = 200_000  # ensembles that are tried


@dataclass(frozen=True)
class Choice:
    """An ensemble of some of the models, by their numbers, and its errors among so many images."""

    members: tuple[int, ...]
    errors: int
    top5_errors: int
    images: int

    @property
    def error(self) -> float:
        """Top-1 error, percent."""
        return 100 * self.errors / self.images

    @property
    def top5_error(self) -> float:
        """Top-5 error, percent."""
        return 100 * self.top5_errors / self.images


def ensemble(parts: Sequence[Scored]) -> Scored:
    """The softmax scores of several models, or of several protocols, averaged.

    Raises:
        ResnetlabError: they are not of the same images, labels and classes.
    """
    first, *others = aligned(parts)
    total = sum((other.scores for other in others), first.scores)
    members = [part.about for part in parts]
    about = {**first.about, "protocol": f"ensemble of {len(parts)}", "members": members}
    about.pop("temperature", None)  # each member's scores are with its own
    return Scored(_logits(total, len(parts)), first.labels, first.names, first.classes, about)


def best_ensembles(parts: Sequence[Scored], size: int, by: RankedBy = "top-5") -> list[Choice]:
    """All ensembles of `size` of the models, the best first, on these very images.

    Raises:
        ResnetlabError: more are asked for than there are, or there are too many ensembles to try.
    """
    if not 1 <= size <= len(parts):
        raise ResnetlabError(f"cannot choose {size} of {len(parts)} models")
    if (count := math.comb(len(parts), size)) > MOST:
        raise ResnetlabError(f"there are {count:,} ensembles of {size} of {len(parts)} models; give fewer models")
    same = aligned(parts)
    first, scores = same[0], [part.scores for part in same]
    found = []
    for members in combinations(range(len(parts)), size):
        total = sum((scores[k] for k in members[1:]), scores[members[0]])
        answers = Answers.of_logits(_logits(total, size), first.labels, first.classes)
        found.append(Choice(members, answers.errors, answers.top5_errors, len(answers)))
    key = (lambda c: (c.top5_errors, c.errors)) if by == "top-5" else (lambda c: (c.errors, c.top5_errors))
    return sorted(found, key=key)


def aligned(parts: Sequence[Scored]) -> list[Scored]:
    """The same with the classes in the order of the first's.

    Raises:
        ResnetlabError: other images, labels or classes.
    """
    if not parts:
        raise ResnetlabError("an ensemble needs scores of one model at least")
    first = parts[0]
    number = {name: k for k, name in enumerate(first.classes)}
    found = []
    for part in parts:
        who, whom = (p.about.get("scores") or p.about.get("model", "these scores") for p in (part, first))
        if part.names != first.names:
            raise ResnetlabError(f"{who} was tested on other images than {whom}; an ensemble needs the same")
        if set(part.classes) != set(first.classes):
            raise ResnetlabError(f"{who} has other classes than {whom}; an ensemble needs the same")
        order = torch.tensor([number[name] for name in part.classes])
        if not torch.equal(order[part.labels], first.labels):
            raise ResnetlabError(f"{who} was tested with other labels than {whom}; an ensemble needs the same")
        logits = torch.empty_like(part.logits)
        logits[:, order] = part.logits
        found.append(Scored(logits, first.labels, first.names, first.classes, part.about))
    return found


def _logits(total: Float64[Tensor, "n classes"], count: int) -> Float32[Tensor, "n classes"]:
    """What softmax makes the mean of, from the sum of so many softmax scores."""
    return (total / count).log().float()
