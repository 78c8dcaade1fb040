"""Suppression, voting, refinement, scales and ensembles against slow implementations that are easy to read."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from resnetlab.data.boxes import Detections
from resnetlab.detection import detect as module
from resnetlab.detection.detect import Predicted, adjacent_scales, detect, suppressed, vote
from resnetlab.detection.images import Images
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions, parse_options
from resnetlab.detection.proposals import Proposals
from resnetlab.errors import ResnetlabError

Make = Callable[..., FasterRCNN]
Show = Callable[..., Images]
Box = tuple[float, float, float, float]
SIZE = 50, 60  # height and width

# Literal implementations, on lists of numbers


def overlap(a: Box, b: Box) -> float:
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) for k in (0, 1))
    common = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return common / (sum(areas) - common)


def voted(box: Box, boxes: list[Box], scores: list[float], iou: float) -> Box:
    votes = [(s, other) for s, other in zip(scores, boxes, strict=True) if overlap(box, other) >= iou]
    total = sum(s for s, _ in votes)
    return tuple(sum(s * other[k] for s, other in votes) / total for k in range(4))  # type: ignore[return-value]


def found_slowly(
    scores: list[list[float]], boxes: list[list[Box]], options: DetectorOptions
) -> list[tuple[float, int, Box]]:
    """Score, class and box, highest score first."""
    height, width = SIZE
    candidates = []
    for row, own in zip(scores, boxes, strict=True):
        for k in range(1, len(row)):
            left, top, right, bottom = own[k]
            box = max(0, min(left, width)), max(0, min(top, height)), min(right, width), min(bottom, height)
            box = (*box[:2], max(0, box[2]), max(0, box[3]))
            if row[k] > options.score and box[2] - box[0] >= 0.01 and box[3] - box[1] >= 0.01:
                candidates.append((row[k], k - 1, box))
    candidates.sort(key=lambda each: -each[0])
    kept = list[tuple[float, int, Box]]()
    for score, k, box in candidates:
        if all(other != k or overlap(box, place) <= options.nms for _, other, place in kept):
            kept.append((score, k, box))
    kept = kept[: options.detections]
    if not options.refine:
        return kept
    return [
        (
            score,
            k,
            voted(
                box, [b for _, c, b in candidates if c == k], [s for s, c, _ in candidates if c == k], options.voting
            ),
        )
        for score, k, box in kept
    ]


# Random regions: whole pixels, so that overlaps are seldom equal to a threshold by rounding alone


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    regions, classes = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    count = regions * (classes + 1)
    corner = st.tuples(st.integers(-10, 60), st.integers(-10, 50), st.integers(1, 40), st.integers(1, 40))
    drawn = draw(st.lists(corner, min_size=count, max_size=count))
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in drawn], dtype=torch.float32)
    order = draw(st.permutations(range(count)))  # no two scores are equal
    scores = torch.tensor(order, dtype=torch.float32).reshape(regions, -1) / count
    return scores, boxes.reshape(regions, classes + 1, 4)


def rows(found: Detections) -> list[tuple[float, int, Box]]:
    columns = found.scores.tolist(), found.classes.tolist(), [tuple(row) for row in found.corners.tolist()]
    return list(zip(*columns, strict=True))


@given(
    predictions(),
    st.sampled_from([0.0, 0.05, 0.4]),
    st.sampled_from([0.31, 0.5001, 1.0]),
    st.sampled_from([1, 3, 100]),
    st.sampled_from([None, 0.5001, 0.123]),
)
def test_suppression_by_class_and_voting(
    predicted: tuple[Tensor, Tensor], score: float, iou: float, most: int, voting: float | None
) -> None:
    scores, boxes = predicted
    options = DetectorOptions(score=score, nms=iou, detections=most, refine=voting is not None, voting=voting or 0.5)
    found = rows(suppressed(Predicted(scores, boxes), SIZE, options))
    expected = found_slowly(scores.tolist(), boxes.tolist(), options)
    assert [each[:2] for each in found] == [pytest.approx(each[:2]) for each in expected]
    for (_, _, box), (_, _, other) in zip(found, expected, strict=True):
        assert box == pytest.approx(other, abs=1e-3)


@given(predictions(), st.floats(0.01, 1))
def test_votes(predicted: tuple[Tensor, Tensor], iou: float) -> None:
    scores, boxes = (part.flatten(0, 1) for part in predicted)
    scores = scores + 0.1
    kept = boxes[::2]
    found = vote(kept, boxes, scores, iou)
    for box, mean in zip(kept.tolist(), found.tolist(), strict=True):
        assert mean == pytest.approx(
            voted(tuple(box), [tuple(b) for b in boxes.tolist()], scores.tolist(), iou), abs=1e-3
        )


def test_a_box_alone_stays_where_it_is() -> None:
    kept = torch.tensor([[3.0, 4.0, 5.0, 9.0]])
    assert torch.equal(vote(kept, kept, torch.tensor([0.3]), 1.0), kept)
    assert len(vote(kept[:0], kept, torch.tensor([0.3]), 0.5)) == 0


@given(
    st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=8),
    st.lists(st.integers(200, 1600), min_size=1, max_size=6, unique=True),
)
def test_the_two_scales_around_the_best(sides: list[tuple[int, int]], scales: list[int]) -> None:
    corners = torch.tensor([[7, 9, 7 + w, 9 + h] for w, h in sides], dtype=torch.float32)
    factors = [scale / 600 for scale in sorted(scales)]
    chosen = adjacent_scales(corners, torch.tensor(factors), 224)
    assert [number for number, _ in chosen] == list(range(len(factors)))
    for k, (width, height) in enumerate(sides):
        mine = [number for number, who in chosen if who[k]]
        areas = [width * height * factor**2 for factor in factors]
        below = [number for number, area in enumerate(areas) if area < 224**2 * (1 - 1e-5)]
        above = [number for number, area in enumerate(areas) if area >= 224**2 * (1 + 1e-5)]
        if len(below) + len(above) < len(areas):
            continue  # a tie
        if below and above:
            assert mine == [below[-1], above[0]]
        else:
            assert mine == (list(range(len(factors)))[-2:] if below else [0, 1][: len(factors)])


# Refinement, on a predictor whose answers are known


@given(predictions(), st.sampled_from(["likeliest", "each-class"]), st.integers(0, 5))
@settings(max_examples=25)
def test_refinement_scores_the_regressed_boxes(predicted: tuple[Tensor, Tensor], refined: str, seed: int) -> None:
    scores, boxes = predicted
    regions, classes = scores.shape
    generator = torch.Generator().manual_seed(seed)
    asked = list[list[float]]()

    def predict(several: list[Tensor]) -> list[Predicted]:
        (one,) = several
        asked.extend(one.tolist())
        return [
            Predicted(
                torch.rand(len(one), classes, generator=generator),
                one[:, None] + torch.arange(classes)[None, :, None],
            )
        ]

    options = DetectorOptions(refine=True, refined=refined)  # type: ignore[arg-type]
    (found,) = module._refined([Predicted(scores, boxes)], predict, SIZE, options)
    assert torch.equal(found.scores[:regions], scores)
    assert torch.equal(found.boxes[:regions], boxes)
    expected = []  # region and class
    for k in range(regions):
        best = max(range(1, classes), key=lambda c: float(scores[k, c]))
        expected += [(k, best)] if refined == "likeliest" else [(k, c) for c in range(1, classes)]
    assert len(asked) == len(expected) == len(found.scores) - regions
    for place, (k, c) in enumerate(expected):
        left, top, right, bottom = boxes[k, c].tolist()
        clipped = [min(max(left, 0), 60), min(max(top, 0), 50), min(max(right, 0), 60), min(max(bottom, 0), 50)]
        assert asked[place] == clipped
        assert found.boxes[regions + place, c].tolist() == [value + c for value in clipped]
        if refined == "each-class":
            others = [other for other in range(classes) if other != c]
            assert not found.scores[regions + place, others].any()
            assert found.scores[regions + place, c] > 0


@pytest.mark.parametrize("refined", ["likeliest", "each-class"])
def test_refinement_runs_the_head_again(make: Make, show: Show, refined: str) -> None:
    """Once per region and once per box that is scored again."""
    network = make("resnet18-narrow16", test_proposals=20, refine=True, refined=refined, score=0.2)
    counts = counted(network)
    (found,) = network(show([(64, 64)]))
    again = 20 if refined == "likeliest" else 20 * 3
    assert counts == [20, again]
    plain = make("resnet18-narrow16", test_proposals=20, score=0.2)
    (without,) = plain(show([(64, 64)]))
    assert len(found)
    assert found.scores.max() >= without.scores.max()


# Several scales


def counted(network: FasterRCNN) -> list[int]:
    """How many regions go through the head in each call from now on."""
    counts, head = list[int](), network.body.head

    def counting(x: Tensor) -> Tensor:
        counts.append(len(x))
        return head(x)

    network.body.head = counting  # type: ignore[method-assign]
    return counts


def at_scales(images: Images, *sides: int) -> Images:
    """The same images, all of one size, with themselves scaled to other shorter sides."""
    (height, width), count = images.sizes[0], len(images)

    def other(side: int) -> Images:
        factor = side / min(height, width)
        size = round(height * factor), round(width * factor)
        pixels = images.pixels if size == (height, width) else torch.nn.functional.interpolate(images.pixels, size)
        return Images(pixels, (size,) * count, images.scales * factor)

    return replace(images, others=tuple(other(side) for side in sides))


def test_the_head_runs_once_per_region_and_chosen_scale(make: Make, show: Show) -> None:
    network = make("resnet18-narrow16", test_proposals=30, canonical=24, scales=(32, 64, 128))
    images = at_scales(show([(64, 96)] * 2), 32, 64, 128)
    x = network.body.shared(images.pixels)
    logits, deltas = network.proposals(x)
    anchors = network.proposals.grid(x)
    corners = torch.cat([network.proposals.best(logits[k], deltas[k], anchors, (64, 96)).corners for k in (0, 1)])
    chosen = adjacent_scales(corners, torch.tensor([0.5, 1.0, 2.0]), 24)
    expected = [int(mine.sum()) for _, mine in chosen]
    assert min(expected) > 0
    assert sum(expected) == 2 * len(corners)
    counts = counted(network)
    network(images)
    assert counts == expected


def test_features_at_the_chosen_scales_and_their_maximum(make: Make, show: Show) -> None:
    """Region by region: pooled at each of its two scales, in pixels of that scale; the larger number of each pair."""
    network = make("resnet18-narrow16", canonical=24, pooling="align")
    images = at_scales(show([(64, 96)] * 2), 32, 64, 128)
    main = network.body.shared(images.pixels)
    maps = module._maps(network, main, images, [0, 1])
    assert maps[1].x is main  # the side of the training is not run again
    generator = torch.Generator().manual_seed(0)
    corners = [torch.rand(count, 4, generator=generator) * 30 for count in (7, 4)]
    corners = [torch.cat([part[:, :2], part[:, :2] + part[:, 2:] + 4], 1) for part in corners]
    found = module._maximum_over_scales(network, maps, corners)
    chosen = adjacent_scales(torch.cat(corners), torch.tensor([0.5, 1.0, 2.0]), 24)
    for k, box in enumerate(torch.cat(corners)):
        image, features = int(k >= 7), []
        for scale, mine in chosen:
            if mine[k]:
                own = [box[None] * (0.5, 1.0, 2.0)[scale] if number == image else box[None][:0] for number in (0, 1)]
                features.append(network.described(maps[scale].x, own, maps[scale].sizes)[0])
        assert len(features) == 2
        assert torch.allclose(found[k], torch.maximum(*features), atol=1e-4)
        assert torch.equal(torch.maximum(*features), torch.maximum(*reversed(features)))


def test_the_side_of_the_training_alone_is_testing_at_one_scale(make: Make, show: Show) -> None:
    network, images = make("resnet18-narrow16", context=True, refine=True), show([(64, 96), (80, 64), (64, 96)])
    equal = replace(images, others=(replace(images),))
    for one, other in zip(network(images), network(equal), strict=True):
        assert rows(one) == rows(other)


def test_one_other_scale_pools_there(make: Make, show: Show) -> None:
    """Boxes are scaled to the map that they are pooled from, also if it is the only one."""
    network = make("resnet18-narrow16", pooling="align")
    images = at_scales(show([(64, 96)]), 128)
    (only,) = module._maps(network, network.body.shared(images.pixels), images, [0])
    corners = [torch.tensor([[8.0, 8.0, 50.0, 60.0], [30.0, 20.0, 90.0, 40.0]])]
    (predicted,) = module._predict(network, [only], corners)
    features = network.described(only.x, [2 * corners[0]], only.sizes)
    logits, deltas = network.regions(features)
    assert torch.allclose(predicted.scores, logits.softmax(1), atol=1e-5)
    assert torch.allclose(predicted.boxes, network.regions.decode(deltas, corners[0]), atol=1e-3)


# Several detectors


def test_proposals_of_several_detectors_are_joined() -> None:
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> Proposals:
        start = torch.rand(count, 2, generator=generator) * 30
        scores = torch.rand(count, generator=generator).sort(descending=True).values
        return Proposals(torch.cat([start, start + 15], 1), scores)

    options = DetectorOptions(proposal_nms=0.5, test_proposals=9)
    one, two = [some(12), some(5)], [some(8), some(1)]
    for found, a, b in zip(module._joined([one, two], options), one, two, strict=True):
        corners, scores = torch.cat([a.corners, b.corners]), torch.cat([a.scores, b.scores])
        assert torch.equal(found, corners[nms(corners, scores, 0.5)[:9]])
    assert module._joined([one], options)[0] is one[0].corners


def test_an_ensemble_of_a_detector_with_itself(make: Make, show: Show, alike: Callable[..., None]) -> None:
    """Its proposals are those of the detector, for copies are suppressed; so are the means of scores and boxes."""
    network, images = make("resnet50-narrow16", refine=True, context=True), show([(64, 96), (80, 64)])
    for one, two in zip(detect([network], images), detect([network, network], images), strict=True):
        assert len(one) > 3
        alike(one, two)


def test_scores_and_boxes_of_several_detectors_are_averaged(make: Make, show: Show) -> None:
    """Two networks, also of different architectures, on the same regions."""
    networks = [make("resnet18-narrow16", seed=1, score=0.3), make("resnet50-narrow8", seed=2)]
    images = show([(64, 96)])
    corners = [torch.tensor([[8.0, 8.0, 50.0, 60.0], [30.0, 20.0, 90.0, 40.0]])]
    each = []
    for network in networks:
        maps = module._maps(network, network.body.shared(images.pixels), images, [0])
        each += module._predict(network, maps, corners)
    mean = module._mean(each)
    assert torch.allclose(mean.scores, (each[0].scores + each[1].scores) / 2)
    assert torch.allclose(mean.boxes, (each[0].boxes + each[1].boxes) / 2)
    assert torch.allclose(mean.scores.sum(1), torch.ones(2))
    found = [detect(order, images)[0] for order in (networks, networks[::-1])]
    count = len(found[0])
    assert 0 < count < len(found[1])  # the least score is the first one's
    assert torch.allclose(found[0].scores, found[1].scores[:count], atol=1e-4)


@pytest.mark.parametrize("text", ["scales=64,100000", "test_proposals=" + "9" * 300, "anchor_offset=nan", "nms=inf"])
def test_options_of_impossible_size(text: str) -> None:
    with pytest.raises(ResnetlabError, match=text.split("=")[0]):
        DetectorOptions(**parse_options((text,)))
