"""YAML as Compose files use it: texts stay texts, keys are not said twice, and what we write can be read again.

8080:80, yes, on, 2026-01-01      texts (YAML 1.1 would make numbers, truths and days of them)
true, 5, 0x10, 0400, 0.25, null   what they look like
<<: *common                       merged
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from fairlead.errors import Invalid

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_KINDS = {
    "tag:yaml.org,2002:null": (re.compile(r"^(~|null|Null|NULL|)$"), "~nN\0"),
    "tag:yaml.org,2002:bool": (re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "tag:yaml.org,2002:int": (_INT, "-+0123456789"),
    "tag:yaml.org,2002:float": (_FLOAT, "-+.0123456789"),
    "tag:yaml.org,2002:merge": (re.compile("^<<$"), "<"),
}
_AMBIGUOUS = re.compile(r"^(y|yes|no|n|on|off|true|false|null|~|)$", re.I)


class _Loader(_Base):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, (_pattern, _letters) in _KINDS.items():
    _Loader.add_implicit_resolver(_tag, _pattern, ["" if letter == "\0" else letter for letter in _letters])


def _mapping(loader: Any, node: Any) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
            first = seen[key.value]
            raise Invalid(
                f'yaml: unmarshal errors:\n  line {line}: mapping key "{key.value}" already defined at line {first}'
            )
        seen[key.value] = line
    loader.flatten_mapping(node)
    return {
        loader.construct_object(key, deep=True): loader.construct_object(item, deep=True) for key, item in node.value
    }


def _whole(loader: Any, node: Any) -> int:
    text = node.value.replace("_", "")
    sign = -1 if text.startswith("-") else 1
    text = text.lstrip("+-")
    return sign * (int(text, 8) if re.fullmatch("0[0-7]+", text) else int(text, 0))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


def load(text: str) -> dict[str, Any]:
    """The mapping that a file is; raises ``Invalid`` in Docker's words."""
    try:
        found = yaml.load(text, Loader=_Loader)  # a safe loader: it makes plain values only
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = (mark.line if mark else 0) + isinstance(problem, yaml.scanner.ScannerError)
        where = f"line {line}: " if line else ""
        raise Invalid(f"yaml: {where}{problem.problem}") from None
    except yaml.YAMLError as problem:
        raise Invalid(f"yaml: {problem}") from None
    if not isinstance(found, dict):
        raise Invalid("top-level object must be a mapping")
    return {str(key): _keys(value) for key, value in found.items()}


def _keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _keys(item) for key, item in value.items()}
    return [_keys(item) for item in value] if isinstance(value, list) else value


def _text(dumper: Any, text: str) -> Any:
    unclear = _AMBIGUOUS.match(text) or _INT.match(text) or _FLOAT.match(text) or re.match(r"^\d{4}-\d\d?-\d\d?", text)
    style = "|" if "\n" in text else '"' if unclear or re.match(r"^0[0-9]+$", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(value: dict[str, Any]) -> str:
    """A mapping as YAML, its keys in the order they are in."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=10**6, allow_unicode=True
    )
    return text
