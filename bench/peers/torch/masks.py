"""Who attends to whom (docs/model.md, section 4; all text valid).

`mask_function` is what FlexAttention is given; it is made of comparisons and integer arithmetic alone, so it works on Python's integers
as well as on tensors. `attends` says the same slowly, segment by segment, as csrc/kernels/attention_pattern.h does.
Needs no PyTorch: `python3 masks.py '{"pattern": "row", ...}'` prints the table of a mask.
"""

import json
import sys
from typing import Callable, NamedTuple

PATTERNS = ("row", "column", "conv")
DIRECTIONS = ("text-to-image", "image-to-text")


class Stream(NamedTuple):
    text_length: int
    grid: int
    kernel: int

    @property
    def length(self) -> int:
        return self.text_length + 1 + self.grid**2


def stream_of(sizes: dict) -> Stream:
    return Stream(sizes["textLength"], sizes["grid"], sizes["kernel"])


def layer_pattern(layer: int, layers: int) -> str:
    """Of layer 1 .. layers."""
    if layer == layers:
        return "conv"
    return "column" if layer % 4 == 2 else "row"


def mask_function(pattern: str, direction: str, stream: Stream) -> Callable:
    """mask(batch, head, query, key): whether the query sees the key."""
    text_length, grid, kernel = stream
    half = kernel // 2

    if direction == "text-to-image":
        first = text_length + 1  # image token; IMG is before it

        def reaches(query, key):
            p, q = query - first, key - first
            if pattern == "row":
                return p - q <= grid
            if pattern == "column":
                return p % grid == q % grid
            return (p // grid - q // grid <= half) & (abs(p % grid - q % grid) <= half)

        def mask(batch, head, query, key):
            return (key < text_length) | ((query >= key) & ((key == text_length) | reaches(query, key)))

        return mask

    last = grid**2  # image token; IMG is at 0, the text after the image

    def reaches_both_ways(query, key):
        p, q = query - 1, key - 1
        if pattern == "row":
            return p // grid == q // grid
        if pattern == "column":
            return p % grid == q % grid
        return (abs(p // grid - q // grid) <= half) & (abs(p % grid - q % grid) <= half)

    def mask_back(batch, head, query, key):
        of_image = (query == 0) | (query > last) | (key == 0) | reaches_both_ways(query, key)
        return ((key > last) & (query >= key)) | ((key <= last) & of_image)

    return mask_back


def attends(pattern: str, direction: str, query: int, key: int, stream: Stream) -> bool:
    """The rules, read off the table of docs/model.md."""

    def segment(position: int):
        n = stream.grid**2
        if direction == "text-to-image":
            if position < stream.text_length:
                return "text", position
            return ("start", 0) if position == stream.text_length else ("image", position - stream.text_length - 1)
        if position == 0:
            return "start", 0
        return ("image", position - 1) if position <= n else ("text", position - 1 - n)

    (from_kind, p), (to_kind, q) = segment(query), segment(key)
    causal = direction == "text-to-image"
    if causal:
        if to_kind == "text":
            return True
        if from_kind == "text":
            return False
        if to_kind == "start":
            return True
    else:
        if to_kind == "text":
            return from_kind == "text" and q <= p
        if to_kind == "start" or from_kind != "image":
            return True
    if from_kind != "image" or (causal and q > p):
        return False
    down, right = q // stream.grid - p // stream.grid, q % stream.grid - p % stream.grid
    if pattern == "row":
        return p - q <= stream.grid if causal else down == 0
    if pattern == "column":
        return right == 0
    return abs(down) <= stream.kernel // 2 and abs(right) <= stream.kernel // 2


def table(pattern: str, direction: str, stream: Stream) -> list[list[bool]]:
    mask = mask_function(pattern, direction, stream)
    positions = range(stream.length)
    return [[bool(mask(0, 0, query, key)) for key in positions] for query in positions]


def check_masks() -> None:
    """Raises unless the masks are what the rules say, on small grids."""
    for stream in (Stream(3, 4, 3), Stream(2, 5, 5), Stream(7, 4, 7)):
        for pattern in PATTERNS:
            for direction in DIRECTIONS:
                for query, row in enumerate(table(pattern, direction, stream)):
                    for key, seen in enumerate(row):
                        if seen != attends(pattern, direction, query, key, stream):
                            raise AssertionError(f"{pattern} {direction} {stream}: query {query}, key {key}: {seen}")


class Slots(NamedTuple):
    """Where a decoder keeps the keys of image tokens, and which of them it looks at, for every position."""

    capacity: int
    slot: list[int]  # of the token at a position
    visible: list[list[int]]  # slots, padded to the same number
    counts: list[list[bool]]  # which of those are not padding


def cache_slots(pattern: str, stream: Stream) -> Slots:
    """As sparse as ours (csrc/sample/decoder.cc): rings for rows and windows, a column's tokens side by side."""
    grid, reach = stream.grid, stream.kernel // 2
    n, first = grid**2, stream.text_length + 1
    capacity = {"row": min(n, grid + 1), "column": n, "conv": min(n, reach * grid + reach + 1)}[pattern]

    def slot_of(p: int) -> int:
        return p % grid * grid + p // grid if pattern == "column" else p % capacity

    seen = []
    for p in range(n):
        if pattern == "column":  # the whole column in its order, the future left out by `counts`
            column = [(p % grid * grid + row, row <= p // grid) for row in range(grid)]
            seen.append(column)
            continue
        earlier = range(max(0, p - capacity + 1), p + 1)
        own = [slot_of(q) for q in earlier if attends(pattern, "text-to-image", first + p, first + q, stream)]
        if pattern == "row":  # the whole ring: no gathering
            seen.append([(slot, slot in own) for slot in range(capacity)])
        else:
            seen.append([(slot, True) for slot in own])
    width = max(map(len, seen))
    seen = [row + [(0, False)] * (width - len(row)) for row in seen]
    return Slots(
        capacity,
        [slot_of(p) for p in range(n)],
        [[slot for slot, _ in row] for row in seen],
        [[counts for _, counts in row] for row in seen],
    )


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    check_masks()
    for line in table(asked["pattern"], asked["direction"], stream_of(asked)):
        print("".join(str(int(seen)) for seen in line))
