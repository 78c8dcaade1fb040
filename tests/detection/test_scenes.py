"""Images and boxes on their way to the network: scaled, mirrored, padded, in an order of seed and step alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import Dataset, File, Files
from resnetlab.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from resnetlab.detection.images import Images
from resnetlab.detection.network import FasterRCNN
from resnetlab.detection.options import DetectorOptions
from resnetlab.detection.stream import (
    Scene,
    SceneStream,
    annotated,
    collate,
    picture,
    read_scene,
    scaled_fits,
    scenes_of,
)
from resnetlab.errors import ResnetlabError

Make = Callable[..., FasterRCNN]
Show = Callable[..., Images]
Options = Callable[..., DetectorOptions]
CPU = torch.device("cpu")
USUAL = Preprocessing.by_channel(Fit.uncropped(64, 100), IMAGENET_MEAN, IMAGENET_STD)

# Scaled


@pytest.mark.parametrize(
    ("width", "height", "scaled"),
    [
        (500, 375, (800, 600)),  # Pascal VOC
        (375, 500, (600, 800)),
        (640, 480, (800, 600)),  # COCO
        (500, 333, (901, 600)),
        (500, 300, (1000, 600)),
        (500, 250, (1000, 500)),  # the longer side decides
        (1920, 1080, (1000, 562)),
        (3000, 10, (1000, 3)),
        (10, 3001, (3, 1000)),
        (1, 5000, (1, 1000)),  # a pixel at least
        (600, 600, (600, 600)),
        (20, 20, (600, 600)),
    ],
)
def test_the_rule_of_faster_rcnn(width: int, height: int, scaled: tuple[int, int]) -> None:
    """Shorter side 600, but the longer side 1,000 at most."""
    assert Fit.uncropped(600, 1000).scaled_size(height, width) == scaled[::-1]


def test_boxes_are_scaled_with_the_image() -> None:
    """Not by one factor, but to the very pixels: sides are rounded."""
    boxes = Boxes.of(torch.tensor([[0, 0, 101, 67], [10, 20, 30, 40]]), [0, 1], [False, True])
    scene = read_scene(Image.new("L", (101, 67)), Fit.uncropped(64, 90), boxes)
    assert scene.size == (60, 90)
    assert scene.pixels.shape == (60, 90, 3)
    assert scene.boxes is not None
    assert torch.allclose(
        scene.boxes.corners, torch.tensor([[0.0, 0.0, 90.0, 60.0]])
    )  # difficult ones are not learnt
    assert scene.scale == (90 / 101, 60 / 67)
    assert read_scene(Image.new("RGB", (101, 67)), Fit.uncropped(64, 90)).boxes is None


def test_other_scales_have_the_longest_side_in_proportion() -> None:
    fits = scaled_fits(Fit.uncropped(600, 1000), [300, 900])
    assert [fit.scaled_size(375, 500) for fit in fits] == [(300, 400), (900, 1200)]
    assert [fit.scaled_size(250, 500) for fit in fits] == [(250, 500), (750, 1500)]


@pytest.mark.parametrize("factor", [0.5, 1.0, 4.0])
def test_detections_are_in_pixels_of_the_original(make: Make, show: Show, factor: float) -> None:
    network = make("resnet18-narrow16")
    (found,) = network(show([(64, 96)]))
    (scaled,) = network(show([(64, 96)], scale=factor))
    assert torch.allclose(scaled.corners * factor, found.corners, atol=1e-4)
    assert torch.equal(scaled.scores, found.scores)
    images = replace(show([(64, 96)]), scales=torch.tensor([[2.0, 4.0]]))  # width and height
    (stretched,) = network(images)
    assert torch.allclose(stretched.corners * torch.tensor([2.0, 4.0, 2.0, 4.0]), found.corners, atol=1e-4)


# Mirrored


def drawing() -> Scene:
    """Rectangles, each of a colour of its own."""
    corners = torch.tensor([[0, 0, 12, 9], [5, 20, 31, 28], [50, 3, 60, 40], [33, 30, 34, 31]])
    pixels = np.zeros((40, 60, 3), np.uint8)
    for k, (left, top, right, bottom) in enumerate(corners.tolist()):
        pixels[top:bottom, left:right] = k + 1
    return Scene(pixels, (1.0, 1.0), Boxes.of(corners, [0, 1, 2, 3]))


def test_mirrored_boxes_stay_on_their_pixels() -> None:
    scene = drawing()
    mirrored = scene.flipped()
    assert mirrored.boxes is not None
    assert not np.array_equal(mirrored.pixels, scene.pixels)
    for k, (left, top, right, bottom) in enumerate(mirrored.boxes.corners.int().tolist()):
        own = mirrored.pixels == k + 1
        assert own[top:bottom, left:right].all()
        assert own.sum() == 3 * (right - left) * (bottom - top)
    twice = mirrored.flipped()
    assert np.array_equal(twice.pixels, scene.pixels)
    assert scene.boxes is not None
    assert twice.boxes is not None
    assert torch.equal(twice.boxes.corners, scene.boxes.corners)
    assert replace(scene, boxes=None).flipped().boxes is None


def mirrored(corners: torch.Tensor, width: int) -> torch.Tensor:
    left, top, right, bottom = corners.unbind(1)
    return torch.stack([width - right, top, width - left, bottom], 1)


@pytest.mark.parametrize("border", ["keep", "drop"])
def test_targets_of_anchors_are_mirrored_with_the_image(
    options: Options, show: Show, border: str, make: Make
) -> None:
    """Each anchor's mirror is an anchor, if the width is a multiple of 16; it has the same label and the same box."""
    width, size = 128, (80, 128)
    network = make("resnet18-narrow16", border=border).proposals
    corners = torch.tensor([[10.0, 10.0, 50.0, 40.0], [60.0, 20.0, 90.0, 70.0], [100.0, 3.0, 104.0, 8.0]])
    anchors = network.grid(torch.zeros(1, 1, 5, 8))
    place = (mirrored(anchors, width)[:, None] == anchors).all(2).float().argmax(1)
    assert torch.equal(anchors[place], mirrored(anchors, width))
    labels, nearest = network._matched(anchors, corners, size)
    others, theirs = network._matched(anchors, mirrored(corners, width), size)
    assert torch.equal(labels, others[place])
    assert {-1.0, 0.0, 1.0} == set(labels.tolist())
    positive = labels == 1
    assert torch.equal(mirrored(nearest, width)[positive], theirs[place][positive])
    deltas = network.coder.encode_single(nearest, anchors)[positive]
    back = network.coder.encode_single(theirs, anchors)[place][positive]
    assert torch.allclose(back, deltas * torch.tensor([-1.0, 1.0, 1.0, 1.0]), atol=1e-5)


def test_targets_of_regions_are_mirrored_with_the_image(make: Make) -> None:
    """With a sample of all proposals, for a random one would be another one."""
    network = make("resnet18-narrow16", boxes_sampled=400).regions
    start = torch.rand(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([60.0, 30.0])
    found = torch.cat([start, start + torch.tensor([40.0, 30.0])], 1)
    boxes = Boxes.of(torch.tensor([[10, 10, 50, 40], [60, 20, 90, 70]]), [2, 0])
    one = network.sample([found], boxes)
    two = network.sample([mirrored(found, 128)], boxes.moved(mirrored(boxes.corners, 128)))
    assert len(one.classes) == 52
    assert torch.equal(one.classes, two.classes)
    assert set(one.classes.tolist()) == {0, 1, 3}
    objects = one.classes > 0
    assert torch.allclose(one.targets[objects] * torch.tensor([-1.0, 1.0, 1.0, 1.0]), two.targets[objects], atol=1e-4)


# Padded


def test_a_batch_is_padded_with_zeros_after_normalisation() -> None:
    scenes = [drawing(), Scene(np.full((50, 30, 3), 255, np.uint8), (0.5, 0.25), Boxes.of([], []))]
    images = collate(scenes, USUAL, CPU, key=3)
    assert (images.pixels.shape, images.sizes, images.key) == ((2, 3, 50, 60), ((40, 60), (50, 30)), 3)
    assert torch.equal(images.scales, torch.tensor([[1.0, 1.0], [0.5, 0.25]]))
    assert not images.pixels[0, :, 40:].any()
    assert not images.pixels[1, :, :, 30:].any()
    assert torch.allclose(images.pixels[1, :, :50, :30], ((1 - USUAL.mean) / USUAL.std).expand(3, 50, 30))
    assert images.boxes is not None
    assert images.boxes.counts.tolist() == [4, 0]
    assert collate([scenes[0], replace(scenes[1], boxes=None)], USUAL, CPU).boxes is None
    sheet = annotated(images, USUAL)
    assert sheet.size == (90, 50)
    assert sheet.getpixel((59, 20)) == (255, 220, 0)


def test_detections_depend_neither_on_padding_nor_on_other_images(
    make: Make, show: Show, alike: Callable[..., None]
) -> None:
    """Images of other sizes change nothing at all, bit for bit; those of the same size only the rounding."""
    network = make("resnet50-narrow16", context=True, refine=True)
    images = show([(64, 96), (80, 64), (64, 96), (96, 100)])
    found = network(images)
    assert all(len(each) for each in found)
    for k, (height, width) in enumerate(images.sizes):
        (alone,) = network(
            replace(
                images,
                pixels=images.pixels[k : k + 1, :, :height, :width],
                sizes=((height, width),),
                scales=images.scales[k : k + 1],
            )
        )
        alike(alone, found[k], *((0.0, 0.0) if k in (1, 3) else ()))
    noisy = images.pixels.clone()
    for k, (height, width) in enumerate(images.sizes):
        noisy[k, :, height:], noisy[k, :, :, width:] = 7.0, -7.0
    for one, other in zip(found, network(replace(images, pixels=noisy)), strict=True):
        assert torch.equal(one.scores, other.scores)
        assert torch.equal(one.corners, other.corners)


def test_parts_of_a_batch(show: Show) -> None:
    boxes = [Boxes.of(torch.tensor([[1, 2, 3, 4]] * k), [k] * k) for k in (1, 0, 2)]
    images = show([(64, 96), (80, 64), (64, 96)], boxes)
    images = replace(images, others=(show([(32, 48)] * 3),))
    part = images[1:]
    assert (len(part), part.sizes, part.key) == (2, images.sizes[1:], images.key + 1)
    assert part.boxes is not None
    assert part.boxes.counts.tolist() == [0, 2]
    assert torch.equal(part.pixels, images.pixels[1:])
    assert len(part.others[0]) == 2
    assert images[0:2].key == images.key
    assert images.by_size() == [[0, 2], [1]]


# In order


@pytest.fixture
def stream(squares: Dataset) -> Callable[..., SceneStream]:
    made = list[SceneStream]()

    def stream(split: Files | None = None, **given: object) -> SceneStream:
        train = split or squares.train
        assert isinstance(train, Files)
        made.append(
            SceneStream(train, USUAL, given.pop("batch_size", 4), given.pop("seed", 0), CPU, threads=1, **given)
        )  # type: ignore[arg-type]
        return made[-1]

    yield stream
    for each in made:
        each.close()


def assert_equal(a: Images, b: Images) -> None:
    assert torch.equal(a.pixels, b.pixels)
    assert (a.sizes, a.key) == (b.sizes, b.key)
    assert a.boxes is not None
    assert b.boxes is not None
    assert a.boxes.tolist() == b.boxes.tolist()


def test_a_batch_is_a_function_of_seed_and_step(stream: Callable[..., SceneStream]) -> None:
    one, two = stream(), stream()
    batches = {step: one.batch(step)[0] for step in range(5)}
    for step in (4, 0, 3):
        assert_equal(two.batch(step)[0], batches[step])
    assert batches[0].key != batches[1].key
    assert stream(seed=1).batch(0)[0].key != batches[0].key
    assert sorted(one.indices(0) + one.indices(1)) == list(range(8))
    assert sorted(one.indices(2) + one.indices(3)) == list(range(8))
    assert one.indices(0) + one.indices(1) != one.indices(2) + one.indices(3)


def test_processes_take_parts_of_the_same_batch(stream: Callable[..., SceneStream]) -> None:
    """And sample in them as one process does that runs the batch in as many chunks."""
    whole = stream().batch(3)[0]
    for part in (0, 1):
        images = stream(part=part, parts=2).batch(3)[0]
        chunk = whole[2 * part : 2 * part + 2]
        assert (images.sizes, images.key) == (chunk.sizes, chunk.key)
        assert images.boxes is not None
        assert chunk.boxes is not None
        assert images.boxes.tolist() == chunk.boxes.tolist()


def test_half_of_the_images_are_mirrored(stream: Callable[..., SceneStream], squares: Dataset) -> None:
    mixed, plain = stream(), stream(flip=False)
    turned = 0
    for step in range(8):
        for one, other in zip(mixed.batch(step)[0].pixels, plain.batch(step)[0].pixels, strict=True):
            turned += not torch.equal(one, other)
    assert 8 <= turned <= 24
    assert isinstance(squares.train, Files)
    assert picture(mixed).height == max(height for height, _ in mixed.batch(0)[0].sizes)


def test_unreadable_files(stream: Callable[..., SceneStream], squares: Dataset) -> None:
    train = squares.train
    assert isinstance(train, Files)
    bad = Files(
        (*train.files[:5], File("gone", "/nowhere/gone.jpg", size=1), *train.files[6:]), train.labels, train.boxes
    )
    with pytest.raises(ResnetlabError, match="gone"):
        [stream(bad).batch(step) for step in range(2)]
    skipping = stream(bad, skip=True)
    batches = [skipping.batch(step)[0] for step in range(2)]
    assert sum(len(images) for images in batches) == 8
    assert skipping.waiting.skipped == {"/nowhere/gone.jpg"}
    skipped = set[str]()
    numbers = [k for some, _ in scenes_of(bad, USUAL, CPU, workers=1, skipped=skipped) for k in some]
    assert numbers == [0, 1, 2, 3, 4, 6, 7]
    assert skipped == {"/nowhere/gone.jpg"}
    with pytest.raises(ResnetlabError, match="gone"):
        list(scenes_of(bad, USUAL, CPU, workers=1))
    nothing = Files(bad.files[5:6], train.labels[:1], Boxes.of([], []))
    with pytest.raises(ResnetlabError, match="none of the training images can be read"):
        stream(nothing, skip=True, batch_size=1).batch(0)


def test_images_for_tests_come_at_each_scale(squares: Dataset) -> None:
    test = squares.test
    assert isinstance(test, Files)
    for (number,), images in scenes_of(test, USUAL, CPU, (32, 64), workers=1):
        image = test.open(number)
        assert images.boxes is None
        assert images.sizes == (USUAL.fit.scaled_size(image.height, image.width),)
        small, same = images.others
        assert torch.equal(same.pixels, images.pixels)
        assert small.sizes == (scaled_fits(USUAL.fit, [32])[0].scaled_size(image.height, image.width),)
        assert torch.allclose(
            small.scales, torch.tensor([[small.sizes[0][1] / image.width, small.sizes[0][0] / image.height]])
        )
