"""Damage to JSON, lines, tables of text and XML."""

import copy
import json
import math
from random import Random
from typing import Any
from xml.etree import ElementTree

from tests.faults.damage_bytes import Damaged, in_bytes

NUMBERS = (0, -1, 1, 2, 3, 7, 255, 256, 5000, 65_536, 2**31 - 1, 2**31, 2**63, -(2**63), 10**23, 10**400, 0.5, -0.0)
REALS = (math.nan, math.inf, -math.inf, 1e-320, 1e30, 1e308, -1e30)
TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "../../x",
    "/",
    "é" * 300,
    "\ud800",
    "\x1b[31m",
    "NaN",
    "1e999",
    "None",
    "a\nb",
    "<b>",
)
VALUES: tuple[Any, ...] = (*NUMBERS, *REALS, *TEXTS, None, True, False, [], {}, [[]], [None], {"": None}, [1] * 1000)


def in_value(random: Random, value: Any) -> tuple[Any, str]:
    """A copy of a JSON value with one change: a part replaced, left out, added, repeated, or nested."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any, str]] = []

    def collect(part: Any, path: str) -> None:
        keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        for key in keys:
            places.append((part, key, f"{path}.{key}"))
            if len(places) < 20_000:
                collect(part[key], f"{path}.{key}")

    collect(value, "")
    kind = random.random()
    if not places or kind < 0.02:
        other = random.choice(VALUES)
        return other, f"all = {short(other)}"
    parent, key, path = random.choice(places)
    if kind < 0.15:
        del parent[key]
        return value, f"{path} left out"
    if kind < 0.25:
        if isinstance(parent, dict):
            parent[random.choice(TEXTS)] = other = random.choice(VALUES)
            return value, f"{path} beside {short(other)}"
        parent.append(copy.deepcopy(parent[key]))
        return value, f"{path} repeated"
    if kind < 0.28:
        parent[key] = nested = []
        for _ in range(random.choice((100, 900))):
            nested.append([])
            nested = nested[0]
        return value, f"{path} nested"
    old = parent[key]
    if kind < 0.45 and type(old) in (int, float):
        parent[key] = random.choice((old + 1, old - 1, -old, old * 1000, float(old), str(old), [old], old * 1e-9))
    elif kind < 0.5 and isinstance(old, str):
        parent[key] = random.choice((old + "x", old.upper(), old[:-1], [old], old * 100))
    else:
        parent[key] = random.choice(VALUES)
    return value, f"{path} = {short(parent[key])}"


def short(value: object) -> str:
    return repr(value)[:40] if not isinstance(value, int) or abs(value) < 1 << 200 else "a number of 400 digits"


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, NaN and single surrogates included."""
    return json.dumps(value).encode()


def in_json(random: Random, content: bytes) -> Damaged:
    """A JSON file with a changed value, key, or bytes."""
    if random.random() < 0.25:
        return in_bytes(random, content)
    value, said = in_value(random, json.loads(content))
    if random.random() < 0.03:
        return b"[" * 100_000, "a hundred thousand brackets"
    return as_json(value), said


def in_lines(random: Random, content: bytes) -> Damaged:
    """JSON lines: one of them changed, left out, repeated or moved; or bytes."""
    lines = content.splitlines(keepends=True)
    if random.random() < 0.3 or not lines:
        return in_bytes(random, content)
    at = random.randrange(len(lines))
    kind = random.random()
    if kind < 0.5:
        value, said = in_value(random, json.loads(lines[at]))
        lines[at] = as_json(value) + b"\n"
        return b"".join(lines), f"line {at}: {said}"
    if kind < 0.7:
        return b"".join(lines[:at] + lines[at + 1 :]), f"line {at} left out"
    if kind < 0.85:
        return b"".join(lines[:at] + lines[at:][:1] + lines[at:]), f"line {at} repeated"
    random.shuffle(lines)
    return b"".join(lines), "lines in another order"


def in_text(random: Random, content: bytes) -> Damaged:
    """Lines and cells of a text file, e.g. CSV; or bytes."""
    if random.random() < 0.25:
        return in_bytes(random, content)
    if random.random() < 0.1:
        coding = random.choice(("utf-16", "utf-32", "latin-1"))
        return content.decode(errors="replace").encode(coding, errors="replace"), coding
    lines = content.decode(errors="replace").split("\n")
    at = random.randrange(len(lines))
    cells = lines[at].split(",")
    which = random.randrange(len(cells))
    other = random.choice(
        (*TEXTS, '"', ",,,", "-1", "1e400", "x" * 140_000, "\udcff", "a/../b.jpg", *map(str, NUMBERS))
    )
    kind = random.random()
    if kind < 0.6:
        cells[which] = other
    elif kind < 0.75:
        del cells[which]
    elif kind < 0.9:
        cells.append(other)
    else:
        lines.insert(at, lines[at])
    lines[at] = ",".join(cells)
    return "\n".join(lines).encode(errors="surrogatepass"), f"line {at}, cell {which}: {short(other)}"


def in_xml(random: Random, content: bytes) -> Damaged:
    """An XML file with another text, a missing element, or an entity."""
    if random.random() < 0.35:
        return in_bytes(random, content)
    root = ElementTree.fromstring(content)
    elements = list(root.iter())
    element = random.choice(elements)
    kind = random.random()
    if kind < 0.55:
        value = random.choice(
            (*map(str, NUMBERS[:-3]), "nan", "inf", "-inf", "1e400", "", "x", "é" * 300, "-5", "0.5")
        )
        element.text = value
        return ElementTree.tostring(root), f"<{element.tag}> = {value[:20]}"
    if kind < 0.75 and len(element):
        element.remove(random.choice(list(element)))
        return ElementTree.tostring(root), f"<{element.tag}> lacks an element"
    if kind < 0.9:
        element.append(copy.deepcopy(element))
        return ElementTree.tostring(root), f"<{element.tag}> twice"
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
        b'<!ENTITY %c "%s">' % (98 + k, b"&%c;" % (97 + k) * 10) for k in range(9)
    )
    return bomb + b"]><annotation><object><name>&j;</name></object></annotation>", "entities within entities"
