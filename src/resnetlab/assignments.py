"""Read the fields of a dataclass from texts such as `learning_rate=0.05`."""

from collections.abc import Iterable
from dataclasses import fields
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
