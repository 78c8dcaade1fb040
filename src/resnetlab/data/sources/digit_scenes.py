"""Scenes of handwritten digits for object detection: scikit-learn's real digits on textures, without a download.

Every scene is a pure function of its split and number. The digits of test scenes are test digits of `digits`.
"""

import hashlib
from functools import cache

import numpy as np
import torch
from jaxtyping import Float64
from numpy.random import RandomState

from resnetlab.data.boxes import Boxes
from resnetlab.data.dataset import Dataset, File, Files, Pixels, Split
from resnetlab.data.sources.digits import digits

NAME = "digit-scenes"
WIDTH, HEIGHT = 192, 160
TRAIN, TEST = 1000, 100
MOST = 4  # digits in a scene
SIDES = 28, 96  # pixels, of the square that a digit is scaled to
SQUEEZE = 0.8, 1.2  # of its width
OVERLAP = 0.05  # of the smaller of two boxes, at most
TRIES = 20  # to place a digit
INK = 0.5  # of the darkest pixel of a digit: the edge of its strokes
GRATINGS = 6
Colours = Float64[np.ndarray, "h w 3"]
Ink = Float64[np.ndarray, "rows columns"]
Box = tuple[int, int, int, int]


def digit_scenes() -> Dataset:
    """1,000 training and 100 test scenes of 192x160 pixels with 1 to 4 digits, 28 to 96 pixels high.

    Boxes are tight around the ink.
    """
    source = digits()
    train, test = _scenes("train", source.train, TRAIN), _scenes("test", source.test, TEST)
    digest = hashlib.sha256()
    for split in (train, test):
        for file in split.files:
            digest.update(file.read())
        digest.update(repr([] if split.boxes is None else split.boxes.tolist()).encode())
    note = "drawn from the training and the test images of digits"
    return Dataset(NAME, source.classes, train, test, note=note, made_from=digest.hexdigest()[:16])


def _scenes(name: str, source: Split, count: int) -> Files:
    assert isinstance(source, Pixels)  # noqa: S101 -- for the type checker
    ink, labels = source.pixels.numpy()[..., 0] / 255, source.labels.tolist()
    order = RandomState(0).permutation(len(ink)).tolist()
    files, boxes, used = [], [], 0
    for number in range(count):
        random = RandomState([name == "test", number])
        pixels, placed = _background(random), list[Box]()
        chosen = [order[(used + k) % len(order)] for k in range(random.randint(1, MOST + 1))]
        drawn = [labels[k] for k in chosen if _draw(pixels, ink[k], placed, random)]
        used += len(chosen)
        shown = np.rint(pixels.clip(0, 255)).astype(np.uint8)
        files.append(File(f"{name} {number}", f"{NAME}, {name} {number}", pixels=shown))
        boxes.append(Boxes.of(torch.tensor(placed), drawn))
    return Files(tuple(files), torch.zeros(count, 0), Boxes.joined(boxes))


def _background(random: RandomState) -> Colours:
    """A colour with soft patches, stripes of several directions and grain."""
    patches, stripes, grain = random.uniform(0.2, 1, 3) * (30, 12, 10)
    base = random.uniform(50, 205) + random.uniform(-30, 30, 3)
    coarse = patches * random.uniform(-1, 1, (3, random.randint(3, 9), random.randint(3, 9)))
    count = random.randint(1, GRATINGS + 1)
    down, right = _waves(count, random)
    # a sum of products: cos(a + b) = cos a cos b - sin a sin b
    rows = np.hstack([_smooth(HEIGHT, coarse.shape[1]), np.cos(down), -np.sin(down)])
    strength = stripes * random.uniform(-1, 1, (3, count, 1))
    waves = [strength * np.cos(right), strength * np.sin(right)]
    columns = np.concatenate([coarse @ _smooth(WIDTH, coarse.shape[2]).T, *waves], 1)
    grains = np.frombuffer(random.bytes(HEIGHT * WIDTH), np.uint8).reshape(HEIGHT, WIDTH) / 127.5 - 1
    return np.asarray((rows @ columns + base[:, None, None] + grain * grains).transpose(1, 2, 0))


def _waves(count: int, random: RandomState) -> tuple[Float64[np.ndarray, "h k"], Float64[np.ndarray, "k w"]]:
    """The phases of plane waves by row and by column; their wavelengths are from 6 to 60 pixels."""
    frequency = 2 * np.pi / np.exp(random.uniform(np.log(6), np.log(60), count))
    angle, phase = random.uniform(0, 2 * np.pi, (2, count))
    down = np.arange(HEIGHT)[:, None] * frequency * np.sin(angle) + phase
    return down, np.arange(WIDTH) * (frequency * np.cos(angle))[:, None]


def _draw(pixels: Colours, ink: Ink, placed: list[Box], random: RandomState) -> bool:
    """Draw a digit where it hardly covers others and add its box to `placed`; False if it finds no place."""
    colour = _contrasting(pixels.mean((0, 1)), random)
    for _ in range(TRIES):
        side = np.exp(random.uniform(*np.log(SIDES)))
        cover = _strokes(ink, round(side), round(side * random.uniform(*SQUEEZE)))
        (height, width), place = cover.shape, random.uniform(0, 1, 2)
        top, left = (
            int(p * (whole - part + 1)) for p, whole, part in zip(place, (HEIGHT, WIDTH), cover.shape, strict=True)
        )
        box = left, top, left + width, top + height
        if all(_overlap(box, other) <= OVERLAP for other in placed):
            under = pixels[top : top + height, left : left + width]
            under += cover[..., None] * (colour - under)
            placed.append(box)
            return True
    return False


def _strokes(ink: Ink, height: int, width: int) -> Float64[np.ndarray, "h w"]:
    """How much of each pixel the strokes cover: the digit scaled smoothly, with sharp edges, cut to its ink."""
    scaled = _smooth(height, len(ink)) @ ink @ _smooth(width, ink.shape[1]).T
    sharpness = min(height, width) / len(ink)
    cover = ((scaled / scaled.max() - INK) * sharpness + 0.5).clip(0, 1)
    rows, columns = (np.flatnonzero((cover >= 0.5).any(axis)) for axis in (1, 0))
    return np.asarray(cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@cache
def _smooth(size: int, points: int) -> Float64[np.ndarray, "size points"]:
    """The matrix that interpolates `points` values to `size` by cubic convolution (Keys, 1981); 0 outside of them."""
    away = np.abs((np.arange(size)[:, None] + 0.5) * points / size - 0.5 - np.arange(points))
    near, far = 1.5 * away**3 - 2.5 * away**2 + 1, -0.5 * away**3 + 2.5 * away**2 - 4 * away + 2
    return np.where(away < 1, near, np.where(away < 2, far, 0))


def _contrasting(background: Float64[np.ndarray, "3"], random: RandomState) -> Float64[np.ndarray, "3"]:
    """A colour clearly darker or lighter."""
    grey = background.mean()
    room = np.array([-grey, 255 - grey])
    way = room[random.randint(2)] if (np.abs(room) > 110).all() else room[np.abs(room).argmax()]
    return np.asarray((grey + way * random.uniform(0.75, 1) + random.uniform(-35, 35, 3)).clip(0, 255))


def _overlap(one: Box, other: Box) -> float:
    """The part of the smaller box that the other one covers."""
    width, height = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) for k in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(width, 0) * max(height, 0) / smaller
