"""Read the fields of a dataclass from texts such as `learning_rate=0.05`, and what the fields mean."""

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any, get_args, get_type_hints

from resnetlab.errors import ResnetlabError, near_matches

FORMS: dict[Any, str] = {
    bool: "yes or no",
    int: "a whole number",
    float: "a number",
    float | None: "a number or none",
    tuple[int, ...]: "whole numbers with commas",
    tuple[float, ...]: "numbers with commas",
}


def meanings(kind: type) -> dict[str, str]:
    """What the fields of a dataclass mean, from the texts below them, each on one line; some have none."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)  # noqa: S101 -- for the type checker
    found = meanings(kind.__base__) if kind.__base__ is not None and is_dataclass(kind.__base__) else {}
    for field, text in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


def parse_assignments(kind: type, assignments: Iterable[str], what: str) -> dict[str, Any]:
    """Fields of the dataclass `kind` and their values; `what` names it in messages. `name` is not a field to set.

    Raises:
        ResnetlabError: wrong form, an unknown field (with similar names), a repeated field, or a wrong type.
    """
    types = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name != "name"]
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, text = assignment.partition("=")
        if not sign:
            raise ResnetlabError(f"cannot set {assignment!r}; write field=value, e.g. {known[0]}=...")
        if name not in known:
            raise ResnetlabError(f"{what} has no field {name!r}: {near_matches(name, known)}")
        if name in found:
            raise ResnetlabError(f"{what}'s field {name} is given twice")
        try:
            found[name] = _parse(types[name], text)
        except (KeyError, ValueError):
            form = FORMS.get(types[name]) or " or ".join(get_args(types[name]))
            raise ResnetlabError(f"{name}={text}: the value must be {form}") from None
    return found


def _parse(kind: Any, text: str) -> object:
    if kind is bool:
        return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
    if kind in (tuple[int, ...], tuple[float, ...]):
        number = get_args(kind)[0]
        return tuple(number(part) for part in text.split(",") if part)
    if kind == float | None:
        return None if text.lower() == "none" else float(text)
    if kind in (int, float, str):
        return kind(text)
    return {choice: choice for choice in get_args(kind)}[text]
