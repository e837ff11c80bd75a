"""Change bytes, text and nested values as accidents and strangers do, by a generator."""

import copy
import random
from typing import Any

ODD_TEXT = [
    *[
        "",
        " ",
        "\0",
        '"',
        "'",
        "\r",
        "\n",
        "\t",
        ",",
        ";",
        ";;",
        "|",
        "\ufeff",
        "\x1a",
        "\x1b[2J",
        "é",
    ],
    *[
        "🙂",
        "\u202e",
        "NA",
        "nan",
        "inf",
        "1e999",
        "-0",
        "007",
        "=1+1",
        "../../x",
        "/etc/passwd",
        "~",
    ],
    *[
        "a" * 300,
        "x" * 140_000,
        "[red]",
        "[/x]",
        "{",
        "[",
        "&a",
        "*a",
        "<<",
        "!!python/object:os.system",
    ],
    *["2020-13-45", "0x_", "!!int x", "? [a]", "%x", "@x", "`x", "hf-hub:a/b", "https://host/x"],
    *["os.system", "[" * 200, "{a: " * 100],
]
ODD_VALUES: list[Any] = [
    *[None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e-300, 1e38, 10**9, 10**18, 10**30],
    *[float("nan"), float("inf"), "", "x", [], [[]], {}, [None], {"a": 1}, [1, 2, 3], ["a", "a"]],
    *[{"class_path": "os.system"}, {"class_path": "torch.nn.Linear"}, {"class_path": 3}],
    *[{"init_args": 3}, "a" * 5000, list(range(500)), "\ud800", "\x1b[2J"],
]


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    """Flip, cut, insert, repeat or overwrite a few bytes."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        found, size = bytearray(content), len(content)
        start = draw.randrange(size + 1)
        end = min(size, start + draw.choice((1, 2, 4, 8, 50, 1000)))
        filler = draw.choice((b"\0", b"\xff", bytes([draw.randrange(256)])))
        kind = draw.randrange(8)
        if kind <= 1 and size:
            for _ in range(draw.choice((1, 1, 8))):
                found[draw.randrange(size)] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del found[start:]
        elif kind == 3:
            del found[start:end]
        elif kind == 4:
            found[start:start] = filler * draw.choice((1, 4, 1000))
        elif kind == 5:
            found[start:start] = found[start:end]
        elif kind == 6:
            found[start:end] = filler * (end - start)
        else:
            found = found[start:] + found[:start]
        content = bytes(found)
    return content


def mutate_text(content: str, draw: random.Random) -> bytes:
    """Insert odd words, drop or repeat lines, or change the encoding."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        lines = content.splitlines(keepends=True) or [""]
        place, kind = draw.randrange(len(lines)), draw.randrange(6)
        if kind <= 2:
            at = draw.randrange(len(lines[place]) + 1)
            lines[place] = lines[place][:at] + draw.choice(ODD_TEXT) + lines[place][at:]
        elif kind == 3:
            del lines[place]
        elif kind == 4:
            lines.insert(place, draw.choice(lines))
        else:
            old, new = draw.choice(
                ((",", ";"), (",", "\t"), ("\n", "\r\n"), ("\n", "\r"), ("a", "é"))
            )
            lines = ["".join(lines).replace(old, new)]
        content = "".join(lines)
    encoding = draw.choice(("utf-8",) * 8 + ("utf-16", "latin-1", "utf-8-sig"))
    return content.encode(encoding, "replace")


def mutate_value(value: Any, draw: random.Random) -> Any:
    """Replace, remove, rename, repeat or nest some of the values in nested mappings and lists."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2))):
        places = list(_places(value))
        if not places:
            return value
        home, key = draw.choice(places)
        kind = draw.randrange(8)
        if kind <= 3:
            home[key] = copy.deepcopy(draw.choice(ODD_VALUES))
        elif kind == 4:
            del home[key]
        elif kind == 5 and isinstance(home, dict):
            home[draw.choice((f"{key}s", f"{key}x", "", "class_path", "init_args"))] = home.pop(key)
        elif kind == 6:
            other_home, other = draw.choice(places)
            home[key] = copy.deepcopy(other_home[other])
        else:
            for _ in range(draw.choice((1, 3, 200))):
                home[key] = [home[key]]
    return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield value, key
        if isinstance(item, (dict, list)):
            yield from _places(item)
