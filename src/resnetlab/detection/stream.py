"""Batches of whole images with boxes: for training a pure function of (seed, step), for tests in order."""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image, ImageDraw
from torch import Tensor

from resnetlab.data.boxes import Boxes
from resnetlab.data.counter import bits, permutation
from resnetlab.data.dataset import Files, Split
from resnetlab.data.photos import Waiting
from resnetlab.data.preprocessing import Fit, Preprocessing
from resnetlab.data.reading import read_each
from resnetlab.detection.images import KEY, Images
from resnetlab.errors import ResnetlabError

AHEAD = 3  # batches in flight, the current one included
SHOWN = 4  # images in the picture of training images
TESTED_AT_A_TIME = {"cpu": 1, "cuda": 8}
FLIP, SAMPLING = 0, 1  # random numbers per image


@dataclass(frozen=True)
class Scene:
    """One scaled image: its pixels, its scale in width and height, and its boxes in pixels of the scaled image."""

    pixels: np.ndarray
    scale: tuple[float, float]
    boxes: Boxes | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[:2]
        return height, width

    def flipped(self) -> "Scene":
        """Mirrored left to right, with its boxes."""
        boxes, width = self.boxes, self.pixels.shape[1]
        if boxes is not None:
            left, top, right, bottom = boxes.corners.unbind(1)
            boxes = boxes.moved(torch.stack([width - right, top, width - left, bottom], 1))
        return replace(self, pixels=self.pixels[:, ::-1], boxes=boxes)


def read_scene(image: Image.Image, fit: Fit, boxes: Boxes | None = None) -> Scene:
    """An image scaled by the fit, with those of its boxes that can be learnt."""
    pixels = fit(image)
    scale = pixels.shape[1] / image.width, pixels.shape[0] / image.height
    return Scene(pixels, scale, None if boxes is None else scaled(boxes, scale))


def scaled(boxes: Boxes, scale: tuple[float, float]) -> Boxes:
    """The boxes that can be learnt, in pixels of an image scaled in width and height."""
    boxes = boxes.where(~boxes.ignored)
    return boxes.moved(boxes.corners * torch.tensor((*scale, *scale)))


def collate(scenes: Sequence[Scene], preprocessing: Preprocessing, device: torch.device, key: int = 0) -> Images:
    """Scenes as one batch on a device: normalised, then padded with zeros to the size of the largest."""
    height, width = (max(scene.size[k] for scene in scenes) for k in (0, 1))
    canvas = torch.zeros(len(scenes), 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    for place, scene in zip(canvas, scenes, strict=True):
        pixels = torch.from_numpy(np.ascontiguousarray(scene.pixels)).to(device)
        h, w = scene.size
        place[:, :h, :w] = preprocessing(pixels[None])[0]
    scales = torch.tensor([scene.scale for scene in scenes], device=device)
    boxes = [scene.boxes for scene in scenes if scene.boxes is not None]
    joined = Boxes.joined(boxes).to(device) if len(boxes) == len(scenes) else None
    return Images(canvas, tuple(scene.size for scene in scenes), scales, joined, key)


class SceneStream:
    """Endless shuffled epochs of whole images; batches may span the end of an epoch.

    This process gets part `part` (from 0) of `parts` of each batch. An unreadable file raises; with
    `on_bad="skip"` the next file replaces it.
    """

    def __init__(
        self,
        split: Files,
        preprocessing: Preprocessing,
        batch_size: int,
        seed: int,
        device: torch.device,
        *,
        flip: bool = True,
        skip: bool = False,
        part: int = 0,
        parts: int = 1,
        threads: int | None = None,
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing.to(device)
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.flip = flip
        self.skip = skip
        self.waiting = Waiting()
        share = batch_size // parts
        self._places = torch.arange(part * share, (part + 1) * share)
        self._order = lru_cache(3)(self._shuffled)
        self._pool = ThreadPoolExecutor(threads or os.cpu_count())
        self._begun: dict[int, list[Future[Scene]]] = {}

    def batch(self, step: int) -> tuple[Images, Images]:
        """Augmented images with boxes for step `step`, counted from 0: the network's input, and the targets."""
        images = collate(self.read(step), self.preprocessing, self.device, self._key(step))
        return images, images

    def read(self, step: int) -> list[Scene]:
        """The scaled and flipped images of a step, from the threads."""
        for early in [k for k in self._begun if not step <= k < step + AHEAD]:
            for future in self._begun.pop(early):
                future.cancel()
        for k in range(step, step + AHEAD):
            if k not in self._begun:
                self._begun[k] = self._begin(k)
        began = time.perf_counter()
        scenes = [future.result() for future in self._begun.pop(step)]
        self.waiting.seconds += time.perf_counter() - began
        return scenes

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def indices(self, step: int) -> list[int]:
        """File numbers in this process's part of the batch."""
        count = len(self.split)
        positions = (step * self.batch_size + self._places).tolist()
        return [int(self._order(position // count)[position % count]) for position in positions]

    def _begin(self, step: int) -> list[Future[Scene]]:
        turned = (self._draws(step, FLIP) % 2 == 0).tolist() if self.flip else [False] * len(self._places)
        numbers = self.indices(step)
        return [self._pool.submit(self._read, k, flip) for k, flip in zip(numbers, turned, strict=True)]

    def _read(self, number: int, flip: bool) -> Scene:
        assert self.split.boxes is not None  # noqa: S101 -- a detection data set
        for further in range(len(self.split)):
            k = (number + further) % len(self.split)
            try:
                scene = read_scene(self.split.open(k), self.preprocessing.fit, self.split.boxes[k])
            except ResnetlabError:
                if not self.skip:
                    raise
                self.waiting.skipped.add(self.split.place(k))
                continue
            return scene.flipped() if flip else scene
        raise ResnetlabError("none of the training images can be read")

    def _key(self, step: int) -> int:
        """That of this process's part is that of the same part of the whole batch; see `Images`."""
        of_batch = bits(torch.zeros(1, dtype=torch.int64), self.seed, 4 + SAMPLING, step)
        return int(of_batch + self._places[0]) % KEY

    def _draws(self, step: int, which: int) -> Int64[Tensor, "b"]:
        return bits(self._places, self.seed, 4 + which, step)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return permutation(len(self.split), self.seed, epoch, torch.device("cpu")).numpy()


def scenes_of(
    split: Split,
    preprocessing: Preprocessing,
    device: torch.device,
    scales: Sequence[int] = (),
    workers: int | None = None,
    skipped: set[str] | None = None,
) -> Iterator[tuple[list[int], Images]]:
    """The images of a split in order, scaled as the detector wants them, and their numbers in the split.

    `scales` are further shorter sides, for multi-scale testing. Unreadable files are added to `skipped`, or raise if
    it is None.
    """
    size = TESTED_AT_A_TIME[device.type]
    preprocessing = preprocessing.to(device)
    fits = [preprocessing.fit, *scaled_fits(preprocessing.fit, scales)]
    cut = partial(_scenes, fits=fits)
    numbers, several = list[int](), list[list[Scene]]()
    for number, scenes in read_each(split, cut, workers, "stop" if skipped is None else "skip", skipped, 4 * size):
        numbers.append(number)
        several.append(scenes)
        if len(numbers) == size:
            yield numbers, _pyramid(several, preprocessing, device)
            numbers, several = [], []
    if numbers:
        yield numbers, _pyramid(several, preprocessing, device)


def scaled_fits(fit: Fit, scales: Sequence[int]) -> list[Fit]:
    """The fits of other shorter sides; the longest side is in proportion."""
    shorter, longest = min(fit.resize), fit.longest or max(fit.resize)
    return [
        replace(fit, resize=(side, side), crop=(side, side), longest=round(longest * side / shorter))
        for side in scales
    ]


def picture(stream: SceneStream) -> Image.Image:
    """The first training images with their boxes, one below the other."""
    images, _ = stream.batch(0)
    return annotated(images[:SHOWN], stream.preprocessing)


def annotated(images: Images, preprocessing: Preprocessing) -> Image.Image:
    """Images with their boxes drawn in, side by side."""
    mean, std = preprocessing.mean.cpu(), preprocessing.std.cpu()
    sheet = Image.new("RGB", (sum(width for _, width in images.sizes), max(height for height, _ in images.sizes)))
    left = 0
    for k, (height, width) in enumerate(images.sizes):
        pixels = (images.pixels[k, :, :height, :width].cpu() * std + mean).mul(255).round().clamp(0, 255).byte()
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        draw = ImageDraw.Draw(image)
        for corners in images.boxes[k].corners.tolist() if images.boxes is not None else ():
            draw.rectangle(corners, outline=(255, 220, 0), width=2)
        sheet.paste(image, (left, 0))
        left += width
    return sheet


def _scenes(image: Image.Image, fits: Sequence[Fit]) -> list[Scene]:
    return [read_scene(image, fit) for fit in fits]


def _pyramid(several: list[list[Scene]], preprocessing: Preprocessing, device: torch.device) -> Images:
    """The batch at the size of the training, with the same images at the other scales."""
    main, *others = (collate(scenes, preprocessing, device) for scenes in zip(*several, strict=True))
    return replace(main, others=tuple(others))
