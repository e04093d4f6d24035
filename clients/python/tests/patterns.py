"""The values and patterns of scenarios (clients/conformance/README.md)."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Dict, List

from harness import CONFORMANCE

with open(CONFORMANCE / "chain.jsonl") as _lines:
    _chain = [json.loads(line) for line in _lines]
ANCHOR = next(line for line in _chain if line["type"] == "anchor")
BLOCKS = [line for line in _chain if line["type"] == "block"]


def keys(count: int, prefix: str = "", **named: Any) -> List[str]:
    lead, start = bytes.fromhex(prefix), named.get("from", 0)
    return [(lead + bytes(27 - len(lead)) + i.to_bytes(4, "big")).hex() for i in range(start, start + count)]


def values(count: int, size: int = 20, seed: int = 0, **named: Any) -> List[str]:
    start = named.get("from", 0)
    return [bytes((seed + 31 * i + 7 * j) % 256 for j in range(size)).hex() for i in range(start, start + count)]


def only(names: str, given: Dict[str, Any]) -> Dict[str, Any]:
    return {k: v for k, v in given.items() if k in names.split()}


def expand(form: Any, saved: Dict[str, Any]) -> Any:
    """Replaces the forms that stand for values; patterns stay."""
    if isinstance(form, list):
        return [expand(x, saved) for x in form]
    if not isinstance(form, dict):
        return form
    name = next(iter(form), "")
    if len(form) != 1 or not name.startswith("$"):
        return {k: expand(v, saved) for k, v in form.items()}
    arg = expand(form[name], saved)
    if name == "$var":
        return saved[arg]
    if name == "$hash":
        return arg * 32
    if name == "$recorded":
        return BLOCKS[arg - 1]
    if name == "$block":
        return BLOCKS[arg - 1]["hash"]
    if name == "$anchor":
        return ANCHOR["state_root" if arg == "root" else arg]
    if name == "$keys":
        return keys(**arg)
    if name == "$values":
        return values(**arg)
    if name == "$pairs":
        return [list(p) for p in zip(keys(**only("count from prefix", arg)), values(**only("count from size seed", arg)))]
    if name == "$bytes":
        return values(1, **arg)[0]
    if name == "$repeat":
        return [arg["of"]] * arg["count"]
    if name == "$concat":
        return [x for part in arg for x in part]
    if name == "$reversed":
        return arg[::-1]
    if name == "$flip":
        data = bytearray.fromhex(arg["of"])
        data[arg["at"]] ^= 1
        return data.hex()
    if name == "$cut":
        return arg["of"][:-2 * arg["bytes"]]
    if name in ("$any", "$len", "$each", "$some", "$not", "$min"):
        return {name: arg}
    raise ValueError(f"{name} is no form that this runner knows")


def matches(pattern: Any, value: Any) -> bool:
    if isinstance(pattern, list):
        return (
            isinstance(value, list) and len(value) == len(pattern)
            and all(matches(p, v) for p, v in zip(pattern, value))
        )
    if not isinstance(pattern, dict):
        return type(pattern) is type(value) and bool(pattern == value) or (
            isinstance(pattern, (int, float)) and isinstance(value, (int, float))
            and not isinstance(pattern, bool) and not isinstance(value, bool) and pattern == value
        )
    name = next(iter(pattern), "")
    arg: Any = pattern.get(name)
    if name == "$any":
        return value is not None
    if name == "$len":
        return isinstance(value, list) and len(value) == arg
    if name == "$each":
        return isinstance(value, list) and all(matches(arg, v) for v in value)
    if name == "$some":
        return isinstance(value, list) and any(matches(arg, v) for v in value)
    if name == "$not":
        return not matches(arg, value)
    if name == "$min":
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= arg
    return isinstance(value, dict) and all(matches(p, value.get(k)) for k, p in pattern.items())


def pick(value: Any, path: str) -> Any:
    """The part of a result that a path such as pairs.0.1 names."""
    for part in path.split(".") if path else ():
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def plain(value: Any) -> Any:
    """A client's value as the API's JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.rstrip("_"): plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(x) for x in value]
    return value
