"""What can be wrong with a data set, and what to do about it."""

from dataclasses import dataclass
from typing import Literal

Weight = Literal["stops", "misleads", "note"]
SMALL = 32  # pixels, of an image
THIN = 4  # pixels, of a box
BLANKS = dict.fromkeys(map(ord, " -_"))
KINDS: dict[str, tuple[Weight, str]] = {
    "unreadable": ("stops", "training stops at such a file; remove or repair it, or train with `on_bad=skip`"),
    "one class": ("stops", "training needs two class folders or more; is this the parent of the right folder?"),
    "empty class": ("stops", "add images, or remove the folder"),
    "no name of a class": ("stops", "rename it: empty, control characters, or not UTF-8"),
    "class of one image": ("stops", "a class needs two different images, one for testing; add some"),
    "class in only one split": ("stops", "use the same class names in all splits"),
    "unreadable annotation": ("stops", "repair it, or make it again"),
    "annotation missing": ("stops", "add it, or take the image from the list"),
    "image missing": ("stops", "add it, or take it from the annotations"),
    "coordinates that are not numbers": ("stops", "correct or remove the box"),
    "unknown category": ("stops", "add the category, or correct or remove the box"),
    "ambiguous id": ("stops", "give each its own id, the same in all files"),
    "class never in training": ("stops", "add training images of it, or remove its boxes"),
    "no boxes": ("stops", "detection learns from boxes; add some"),
    "same image in two splits": ("misleads", "the test error would be too low; keep it in one split"),
    "same image in two classes": ("misleads", "one of the labels is wrong; keep it in one class"),
    "class names alike": ("misleads", "they differ only in case, spaces, - and _; are they one class?"),
    "category twice": ("misleads", "two ids of one name are two classes; merge them"),
    "annotation of another size": ("misleads", "its boxes are likely in the wrong places; annotate the image anew"),
    "box without area": ("misleads", "dropped, so its object counts as background; draw it again, or remove it"),
    "box outside of the image": (
        "misleads",
        "dropped, so its object counts as background; draw it again, or remove it",
    ),
    "object with two boxes": ("misleads", "IoU above 0.9; tests count one of them as missed; remove one"),
    "damaged": ("note", "readable, but some pixels are wrong"),
    "similar image in two splits": ("note", "if it is a copy, the test error would be too low; look at them"),
    "similar image in two classes": ("note", "if it is a copy, one of the labels is wrong; look at them"),
    "similar images in a class": ("note", "copies, or pictures of one scene? `group_by` keeps groups in one split"),
    "same image twice in a class": ("note", "training and tests count it twice"),
    "same image twice": ("note", "training and tests count it twice"),
    "content is not what the suffix says": ("note", "the content decides how it is read"),
    "grey": ("note", "read as RGB"),
    "CMYK": ("note", "read as RGB; colours may be off"),
    "palette": ("note", "read as RGB"),
    "alpha": ("note", "transparency is dropped"),
    "16 bit": ("note", "only the upper 8 bits are read"),
    "rotated by EXIF": ("note", "rotated upright"),
    "several frames": ("note", "only the first is read"),
    "tiny": ("note", f"a side is shorter than {SMALL} pixels"),
    "hidden": ("note", "not read"),
    "not an image": ("note", "not read"),
    "outside of the classes": ("note", "not read"),
    "unbalanced": ("note", "`balance=loss` or `balance=sampling` compensates for it"),
    "box over the edge": ("note", "clipped to the image"),
    "tiny box": ("note", f"a side is shorter than {THIN} pixels"),
    "image without boxes": ("note", "all of it is background"),
    "image size not stated": ("note", "read from the image"),
    "class without boxes": ("note", "is it needed?"),
    "class only in training": ("note", "tests say nothing about it"),
    "unusual category ids": ("note", "classes are numbered in the order of their ids"),
    "image in no split": ("note", "not read"),
    "annotation without image": ("note", "not read"),
}


@dataclass(frozen=True)
class Finding:
    """One problem, of one of `KINDS`, and its file."""

    kind: str
    file: str
    detail: str = ""

    @property
    def weight(self) -> Weight:
        """Whether it stops training, makes results misleading, or is only a note."""
        return KINDS[self.kind][0]
