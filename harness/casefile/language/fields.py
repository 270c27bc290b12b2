"""Building blocks of a YAML model: text with a known shape, names out of a table, lists without repeats.

They go into `Annotated[...]` and stay visible in the JSON schema. A rule over several fields calls `refuse` with the
key path of each thing that is wrong, so that the message points there and not at the mapping around it.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Tag,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from harness.casefile.syntax.document import KeyPath, shown
from harness.vocabulary import bytes_of
from harness.vocabulary.errors import suggest

REFUSED = "refused"

# The words stand beside each pattern because a pattern explains nothing to whoever misses it.
SLUG = r"^[a-z0-9][a-z0-9._-]{0,79}$"
COMPONENT = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$"
CODE = r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*"
ENGINE = rf"^([a-z0-9][a-z0-9._-]{{0,79}}|{CODE})$"
MODEL = r"^[a-z0-9*?][a-z0-9._*?-]{0,79}$"
MODELS = r"^(tag:)?[a-z0-9*?][a-z0-9._*?-]{0,79}$"
PATTERN_WORDS = {
    SLUG: "lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or digit",
    COMPONENT: "a component such as 'mlp_out' or a module path such as 'mlp.gate_proj'",
    ENGINE: "an engine's name such as 'native', or 'module:function'",
    MODELS: "a model's id, a pattern such as 'qwen3-*', or 'tag:moe'",
    MODEL: "a model's id or a pattern such as 'qwen3-*'",
}


@dataclass(frozen=True)
class Refusal:
    """One thing a rule found wrong, at a key path relative to where the rule stands."""

    path: KeyPath
    message: str
    at_key: bool = False


def refuse(refusals: list[Refusal]) -> PydanticCustomError:
    """Return the error that carries refusals through pydantic, to be raised by a validator."""
    summary = "; ".join(refusal.message for refusal in refusals)
    return PydanticCustomError(REFUSED, "{summary}", {"summary": summary, "refusals": refusals})


@dataclass(frozen=True)
class NameOf:
    """Text that is one of the names of a noun: `Annotated[str, NameOf("a metric", tuple(METRICS))]`."""

    noun: str
    names: tuple[str, ...]
    or_code: bool = False
    """Whether `module:function` will do as well."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        named = {"enum": list(self.names)}
        return {**handler(schema), **({"anyOf": [named, {"pattern": f"^{CODE}$"}]} if self.or_code else named)}

    def _check(self, name: str) -> str:
        if name not in self.names and not (self.or_code and re.fullmatch(CODE, name)):
            raise refuse([Refusal((), f"{shown(name)} is not {self.noun}; {suggest(name, self.names)}")])
        return name


def _amount(text: str) -> str:
    try:
        bytes_of(text)
    except ValueError as error:
        raise refuse([Refusal((), str(error))]) from error
    return text


@dataclass(frozen=True)
class Distinct:
    """A list without repeats."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "uniqueItems": True}

    def _check(self, items: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
        first = {item: index for index, item in reversed(list(enumerate(items)))}
        repeats = [index for index, item in enumerate(items) if first[item] != index]
        if repeats:
            raise refuse([Refusal((i,), f"{_item(items[i])} is listed twice") for i in repeats])
        return items


def _item(item: Hashable) -> str:
    return shown(item) if isinstance(item, str) else str(item)


def either(expected: str) -> Discriminator:
    """Return what decides by the kind of value between union members tagged TEXT, NUMBER and LIST.

    Without it a fault inside a list would also be reported as "not text".
    """
    kinds: dict[type, str] = {str: "text", int: "number", float: "number", bool: "flag", list: "list", tuple: "list"}
    kinds[dict] = "mapping"

    def kind(value: Any) -> str | None:
        return kinds.get(type(value))

    return Discriminator(kind, custom_error_type="misfit", custom_error_message=f"expected {expected}")


class StrictModel(BaseModel):
    """What every part of a case file has: unknown fields and near-miss types are errors, and nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


PYTEST_MARKS = ("filterwarnings", "parametrize", "skip", "skipif", "usefixtures", "xfail")


def _tag(name: str) -> str:
    if name in PYTEST_MARKS:
        raise refuse([Refusal((), f"{name!r} cannot be a tag: pytest acts on a mark of this name; choose another")])
    return name


DISTINCT = Distinct()
AMOUNT = AfterValidator(_amount)
TEXT, NUMBER, FLAG, LIST, MAPPING = (Tag(kind) for kind in ("text", "number", "flag", "list", "mapping"))

Slug = Annotated[str, Field(pattern=SLUG)]
# Tags become marks, for `-m`; one that pytest acts on would skip a job unseen.
TagName = Annotated[Slug, AfterValidator(_tag)]
Component = Annotated[str, Field(pattern=COMPONENT)]
Engine = Annotated[str, Field(pattern=ENGINE)]
ModelPattern = Annotated[str, Field(pattern=MODEL)]
Models = Annotated[str, Field(pattern=MODELS)]
TokenId = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
