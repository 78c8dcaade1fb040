"""Commands are functions: tyro turns their parameters into options, each with a placeholder."""

import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from resnetlab.assignments import meanings
from resnetlab.training.resolve import RecipeOptions

On = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
"""An option that is on, and is switched off by --no-NAME."""
F = TypeVar("F", bound=Callable[..., None])
app = tyro.extras.SubcommandApp()
PLACE_HOLDERS: dict[object, str] = {int: "N", float: "NUMBER", str: "NAME", Path: "PATH"}
OTHER_NAMES: dict[tuple[Any, str], dict[str, Any]] = {
    (RecipeOptions, "name"): {"name": "recipe"},
    (RecipeOptions, "fields"): {"name": "set", "metavar": "FIELD=VALUE ..."},
    (RecipeOptions, "freeze"): {"metavar": "STAGE"},
    (RecipeOptions, "batch_size"): {"aliases": ("--batch",)},
    (RecipeOptions, "image_size"): {"aliases": ("--imgsz",)},
    (RecipeOptions, "learning_rate"): {"name": "lr", "aliases": ("--learning-rate",)},
    (RecipeOptions, "validation"): {"metavar": "NUMBER-OR-SHARE"},
}
"""Options whose names on the command line differ from those of the fields."""
HELP = bool({"-h", "--help"} & set(sys.argv))
"""Whether texts are shown; tyro breaks their lines where the source does, so they are given to it on one line."""
summaries: dict[str, str] = {}
"""The first sentence about each command, by its name."""
flags: dict[str, str] = {"fields": "set"}
"""Names in Python that are options of a command, to their names on the command line."""


def command(function: F | None = None, *, name: str | None = None) -> Any:
    """Register a function as a command; see tyro for the use of parameters and docstrings."""
    if function is None:
        return lambda f: command(f, name=name)
    hints = get_type_hints(function, include_extras=True)
    texts = _arguments(function.__doc__ or "") if HELP else {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY and not is_dataclass(hints[parameter.name]):
            continue
        said = {"help": texts[parameter.name]} if parameter.name in texts else {}
        _prepare(function.__annotations__, parameter.name, hints[parameter.name], said)
    known = name or function.__name__.replace("_", "-")
    summaries[known] = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
    app.command(name=name)(function) if name else app.command(function)
    return function


def _arguments(docstring: str) -> dict[str, str]:
    """The texts of the arguments in a docstring, each on one line."""
    _, _, arguments = docstring.partition("    Args:\n")
    parts = re.split(r"^ {8}(\w+): ", arguments, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


def _prepare(annotations: dict[str, Any], name: str, hint: Any, said: dict[str, Any]) -> None:
    """Give an option a placeholder, and do not show None as its default."""
    if is_dataclass(hint):
        nested, texts = get_type_hints(hint, include_extras=True), meanings(cast("type", hint)) if HELP else {}
        for field in fields(hint):
            if field.init:
                more = {"help": texts[field.name]} if field.name in texts else {}
                known = OTHER_NAMES.get((hint, field.name), {})
                _prepare(hint.__annotations__, field.name, nested[field.name], {**known, **more})
        return
    flags.setdefault(name.rstrip("_"), said.get("name", name.rstrip("_")))
    inner = hint
    if get_origin(hint) is Annotated:
        if "help" in said:
            annotations[name] = Annotated[hint, tyro.conf.arg(help=said["help"])]
        return
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        (inner,) = [kind for kind in get_args(hint) if kind is not NoneType]
        said = {"help_behavior_hint": "", **said}
        if get_origin(inner) is Literal:
            annotations[name] = Annotated[hint, _one_of(get_args(inner)), tyro.conf.arg(**said)]
            return
    if get_origin(inner) is tuple and get_args(inner)[-1] is Ellipsis:
        said = {"metavar": f"{PLACE_HOLDERS.get(get_args(inner)[0], 'VALUE')} ...", "help_behavior_hint": "", **said}
    if inner in PLACE_HOLDERS:
        said = {"metavar": PLACE_HOLDERS[inner], **said}
    if said:
        annotations[name] = Annotated[hint, tyro.conf.arg(**said)]


def _one_of(names: tuple[str, ...]) -> PrimitiveConstructorSpec[str | None]:
    """An option of these names, or of none if it is not given; tyro itself would also take the word None."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="{" + ",".join(names) + "}",
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or value in names,
        str_from_instance=lambda value: [str(value)],
        choices=names,
    )
