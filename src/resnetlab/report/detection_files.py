"""Write detections to files: tables, COCO's results format, and pictures with boxes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from resnetlab.data.boxes import Boxes, Detections
from resnetlab.files import csv_writer, write_json

FILES = ("metrics.json", "per_class.csv", "detections.csv", "detections.json", "pictures")
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000", "#000075")
TRUE_BOX = "#ffe119"
COLUMNS = ("image", "class", "score", "left", "top", "right", "bottom")
Cells = Sequence[str | int | float]


def write_csv(path: Path, found: Mapping[str, Detections], classes: Sequence[str]) -> None:
    """A line per detection: image, class, score, and the corners in pixels of the original image."""
    with table(path, COLUMNS) as writer:
        for name, detections in found.items():
            for corners, number, score in _rows(detections):
                writer.writerow([name, classes[number], f"{score:.4f}", *(f"{x:.1f}" for x in corners)])


def write_coco(
    path: Path, found: Mapping[str, Detections], image_ids: Mapping[str, int], category_ids: Sequence[int]
) -> None:
    """COCO's results format: image_id, category_id, bbox as left, top, width, height, and score.

    `image_ids` are by image name; images that it lacks are named instead of numbered. Without `category_ids`
    categories are numbered from 1.
    """
    rows = []
    for name, detections in found.items():
        for (left, top, right, bottom), number, score in _rows(detections):
            box = [round(x, 2) for x in (left, top, right - left, bottom - top)]
            category = category_ids[number] if category_ids else number + 1
            rows.append(
                {
                    "image_id": image_ids.get(name, name),
                    "category_id": category,
                    "bbox": box,
                    "score": round(score, 5),
                }
            )
    write_json(path, rows)


def objects(detections: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Class, score and box (left, top, right, bottom, in pixels) of each object, as JSON."""
    return [
        {"class": classes[number], "score": round(score, 5), "box": [round(x, 1) for x in corners]}
        for corners, number, score in _rows(detections)
    ]


def drawn(
    image: Image.Image, detections: Detections, classes: Sequence[str], truth: Boxes | None = None
) -> Image.Image:
    """The image with what was found, and below it in yellow, thin, the annotated boxes with their classes."""
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    side = max(picture.size)
    width, font = max(1, side // 300), ImageFont.load_default(max(10, side // 45))
    known = [] if truth is None else zip(truth.corners.tolist(), truth.classes.tolist(), strict=True)
    for corners, number in known:
        draw.rectangle(corners, outline=TRUE_BOX, width=width)
        where = corners[0] + 2 * width, corners[3] - 2 * width
        draw.text(where, classes[number], fill=TRUE_BOX, font=font, anchor="ls")
    for corners, number, score in reversed(list(_rows(detections))):
        colour = COLOURS[number % len(COLOURS)]
        draw.rectangle(corners, outline=colour, width=2 * width)
        text = f"{classes[number]} {score:.0%}"
        left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        at = corners[0], max(0.0, corners[1] - bottom - 2)
        draw.rectangle((at[0], at[1], at[0] + right - left + 4, at[1] + bottom + 2), fill=colour)
        draw.text((at[0] + 2, at[1]), text, fill="white", font=font)
    return picture


@contextmanager
def table(path: Path, header: Sequence[str]) -> Iterator[Any]:
    """A CSV file, whole or not at all."""
    with csv_writer(path) as writer:
        writer.writerow(header)
        yield writer


def _rows(detections: Detections) -> Iterator[tuple[list[float], int, float]]:
    columns = detections.corners.tolist(), detections.classes.tolist(), detections.scores.tolist()
    yield from zip(*columns, strict=True)
