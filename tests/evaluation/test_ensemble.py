"""Ensembles from records, against literal averages and all choices one by one."""

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from resnetlab.errors import ResnetlabError
from resnetlab.evaluation.ensemble import best_ensembles, ensemble
from resnetlab.evaluation.scores import Scored

CLASSES = tuple("abcdefgh")
LABELS = torch.arange(120) % 8


def some(seed: int, strength: float) -> Scored:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(120, 8, generator=generator) + strength * torch.nn.functional.one_hot(LABELS, 8)
    names = tuple(f"{k}.jpg" for k in range(120))
    return Scored(logits, LABELS, names, CLASSES, {"model": f"model {seed}", "protocol": "single view"})


PARTS = [some(seed, 0.5 + 0.2 * seed) for seed in range(5)]


def literal(members: tuple[int, ...]) -> tuple[int, int]:
    """Top-5 and top-1 errors of an average, image by image."""
    top1 = top5 = 0
    for k in range(120):
        mean = torch.stack([PARTS[m].logits[k].double().softmax(0) for m in members]).mean(0)
        order = mean.argsort(descending=True).tolist()
        top1 += order[0] != int(LABELS[k])
        top5 += int(LABELS[k]) not in order[:5]
    return top5, top1


def test_each_member_has_its_own_temperature() -> None:
    logits = torch.tensor([[2.0, 0.0]])
    members = [
        Scored(logits, torch.tensor([0]), ("x",), ("a", "b"), {"model": str(t), "temperature": t}) for t in (1.0, 2.0)
    ]
    expected = (logits.softmax(1) + (logits / 2).softmax(1)) / 2
    for order in (members, members[::-1]):
        together = ensemble(order)
        torch.testing.assert_close(together.scores.float(), expected)
        assert together.answers().probabilities[0, 0] == pytest.approx(float(expected[0, 0]), abs=1e-6)


def test_scores_are_averaged() -> None:
    found = ensemble(PARTS)
    mean = torch.stack([part.logits.double().softmax(1) for part in PARTS]).mean(0)
    torch.testing.assert_close(found.scores, mean, rtol=1e-5, atol=0)
    answers = found.answers()
    assert (answers.top5_errors, answers.errors) == literal((0, 1, 2, 3, 4))
    assert answers.errors < min(part.answers().errors for part in PARTS)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_choices_are_tried(size: int) -> None:
    found = best_ensembles(PARTS, size)
    expected = {members: literal(members) for members in combinations(range(5), size)}
    assert {c.members: (c.top5_errors, c.errors) for c in found} == expected
    assert [(c.top5_errors, c.errors) for c in found] == sorted(expected.values())
    assert best_ensembles(PARTS, size, "top-1")[0].errors == min(top1 for _, top1 in expected.values())
    assert found[0].top5_error == pytest.approx(100 * found[0].top5_errors / 120)


def test_classes_in_another_order_are_matched_by_name() -> None:
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    back = torch.argsort(order)
    turned = replace(
        PARTS[1], logits=PARTS[1].logits[:, order], labels=back[LABELS], classes=tuple(CLASSES[k] for k in order)
    )
    assert turned.answers().errors == PARTS[1].answers().errors
    torch.testing.assert_close(ensemble([PARTS[0], turned]).scores, ensemble(PARTS[:2]).scores)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (replace(PARTS[1], names=("x.jpg", *PARTS[1].names[1:])), "tested on other images"),
        (replace(PARTS[1], labels=LABELS.roll(1)), "tested with other labels"),
        (replace(PARTS[1], classes=("z", *CLASSES[1:])), "has other classes"),
    ],
)
def test_what_is_not_alike_is_refused(other: Scored, reason: str) -> None:
    with pytest.raises(ResnetlabError, match=reason):
        ensemble([PARTS[0], other])


def test_too_many_or_too_few() -> None:
    with pytest.raises(ResnetlabError, match="cannot choose 6 of 5"):
        best_ensembles(PARTS, 6)
    with pytest.raises(ResnetlabError, match="ensembles of 20 of 40"):
        best_ensembles(PARTS * 8, 20)


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "scores.safetensors"
    PARTS[0].save(path)
    for place in (path, tmp_path):
        found = Scored.load(place)
        assert torch.equal(found.logits, PARTS[0].logits)
        assert torch.equal(found.labels, LABELS)
        assert (found.names, found.classes, found.about) == (
            PARTS[0].names,
            CLASSES,
            PARTS[0].about | {"scores": str(place)},
        )
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ResnetlabError, match="holds no scores, or is damaged"):
        Scored.load(path)
    with pytest.raises(ResnetlabError, match="holds no scores"):
        Scored.load(tmp_path / "nowhere")


def written(path: Path, format_: int, tensors: dict[str, torch.Tensor]) -> Path:
    """A file of scores of some format, byte by byte as `save` wrote it then."""
    header = {"format": format_, "names": PARTS[0].names, "classes": CLASSES, "about": PARTS[0].about}
    save_file(tensors | {"labels": LABELS}, path, {"resnetlab-scores": json.dumps(header)})
    return path


def test_softmax_scores_of_format_1_are_read(tmp_path: Path) -> None:
    scores = PARTS[0].logits.softmax(1)
    scores[0] = torch.tensor([0, 0, 1, 0, 0, 0, 0, 0.0])  # what is too small is 0 in them
    found = Scored.load(written(tmp_path / "old.safetensors", 1, {"scores": scores}))
    torch.testing.assert_close(found.scores.float(), scores)
    assert (found.names, found.classes, found.labels.tolist()) == (PARTS[0].names, CLASSES, LABELS.tolist())
    assert found.answers().ranked[0].tolist() == [2, 0, 1, 3, 4]
    assert np.array_equal(found.answers().ranked[1:], PARTS[0].answers().ranked[1:])
    torch.testing.assert_close(ensemble([found, PARTS[1]]).scores[1:], ensemble(PARTS[:2]).scores[1:])


def test_a_format_to_come_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "new.safetensors", 3, {"logits": PARTS[0].logits})
    with pytest.raises(ResnetlabError, match=r"^\S+ has format 3; this resnetlab reads 1 to 2"):
        Scored.load(path)


@pytest.mark.parametrize(
    ("logits", "labels", "hint"),
    [
        (torch.zeros(2), torch.zeros(2).long(), "logits of shape"),
        (torch.zeros(3, 2), torch.zeros(2).long(), "logits of shape"),
        (torch.zeros(2, 2).long(), torch.zeros(2).long(), "logits of shape"),
        (torch.zeros(2, 2), torch.zeros(2), "labels are torch.float32"),
        (torch.zeros(2, 2), torch.zeros(3).long(), "labels are torch.int64 of shape"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "labels from 0 to 2 for 2 classes"),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), "labels from -1 to 0 for 2 classes"),
        (torch.tensor([[0.0, math.nan], [0.0, 0.0]]), torch.zeros(2).long(), "not numbers"),
        (torch.tensor([[0.0, math.inf], [0.0, 0.0]]), torch.zeros(2).long(), "not numbers"),
        (torch.full((2, 2), -math.inf), torch.zeros(2).long(), "not numbers"),
    ],
)
def test_scores_that_cannot_be(tmp_path: Path, logits: torch.Tensor, labels: torch.Tensor, hint: str) -> None:
    header = {"format": 2, "names": ["a", "b"], "classes": ["x", "y"], "about": {}}
    save_file(
        {"logits": logits, "labels": labels}, tmp_path / "s.safetensors", {"resnetlab-scores": json.dumps(header)}
    )
    with pytest.raises(ResnetlabError, match=hint):
        Scored.load(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    "header", ["[]", "3", "{}", "[" * 10_000, '{"format": 2, "names": 3, "classes": 4, "about": 5}']
)
def test_headers_of_scores_that_cannot_be(tmp_path: Path, header: str) -> None:
    tensors = {"logits": torch.zeros(1, 2), "labels": torch.zeros(1).long()}
    save_file(tensors, tmp_path / "s.safetensors", {"resnetlab-scores": header})
    with pytest.raises(ResnetlabError, match="holds no scores, or is damaged"):
        Scored.load(tmp_path / "s.safetensors")
