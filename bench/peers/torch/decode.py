"""One decoding step of the generator: static caches that hold what later tokens can still see, as ours do, one CUDA graph a step."""

import time
from typing import Callable, NamedTuple

import torch
import torch._dynamo
import torch.nn.functional as F

from blocks import matrix_mask
from common import COMPILED, TORCH, attempt, capture, device, expect, free, report, synchronize
from generator import Layer, Linear, Model, Norm, Weights, image_offsets, normed, text_offsets
from masks import PATTERNS, Stream, cache_slots, check_masks, layer_pattern

Tensor = torch.Tensor

torch._dynamo.config.recompile_limit = 64  # a compilation for each pattern and number of candidates


class Place(NamedTuple):
    """Where a step stands, for one pattern."""

    slot: Tensor  # (1) of the new token
    slots: Tensor | None  # (S) that it looks at; None: all
    bias: Tensor  # (S) minus infinity where there is nothing to be seen


class Cache(NamedTuple):
    prefix_k: Tensor  # (heads, T, D), of all candidates
    prefix_v: Tensor
    own_k: Tensor  # (candidates, heads, capacity, D)
    own_v: Tensor


class Style(NamedTuple):
    """How the same mathematics is written: for eager kernels, or for a compiler that fuses sums of products."""

    fused: bool

    def linear(self, x: Tensor, linear: Linear) -> Tensor:
        # the compiler makes a product by one row a kernel of its own only where no bias is in the way
        if self.fused:
            return F.linear(x, linear.weight) + linear.bias
        return F.linear(x, linear.weight, linear.bias)

    def scores(self, q: Tensor, keys: Tensor) -> Tensor:
        """(candidates, heads, D) . (candidates, heads, S, D), in float32."""
        if self.fused:
            return (q.float().unsqueeze(2) * keys.float()).sum(3)
        return (keys @ q.unsqueeze(3)).squeeze(3).float()

    def mix(self, weights: Tensor, values: Tensor) -> Tensor:
        """(candidates, heads, S) . (candidates, heads, S, D)."""
        if self.fused:
            return (weights.float().unsqueeze(3) * values.float()).sum(2).to(values.dtype)
        return (weights.unsqueeze(2) @ values).squeeze(2)


def layer_step(x: Tensor, layer: Layer, cache: Cache, place: Place, heads: int, style: Style) -> Tensor:
    rows, hidden = x.shape
    scale = (hidden // heads) ** -0.5
    qkv = style.linear(normed(x, layer.attention_norm), layer.query_key_value)
    q, k, v = qkv.view(rows, 3, heads, hidden // heads).unbind(1)
    cache.own_k.index_copy_(2, place.slot, k.unsqueeze(2))
    cache.own_v.index_copy_(2, place.slot, v.unsqueeze(2))
    if place.slots is None:
        keys, values = cache.own_k, cache.own_v
    else:
        keys, values = cache.own_k.index_select(2, place.slots), cache.own_v.index_select(2, place.slots)
    shared = (q.transpose(0, 1) @ cache.prefix_k.transpose(1, 2)).transpose(0, 1).float()
    own = style.scores(q, keys)
    weights = torch.softmax(torch.cat([shared * scale, own * scale + place.bias], 2), 2).to(x.dtype)
    of_prefix, of_own = weights.split([shared.shape[2], own.shape[2]], 2)
    mixed = (of_prefix.transpose(0, 1) @ cache.prefix_v).transpose(0, 1) + style.mix(of_own, values)
    x = x + style.linear(mixed.reshape(rows, hidden), layer.attention_out)
    wide = F.gelu(style.linear(normed(x, layer.mlp_norm), layer.mlp_in), approximate="tanh")
    return x + style.linear(wide, layer.mlp_out)


def finish_step(x: Tensor, norm: Norm, head: Linear, style: Style) -> tuple[Tensor, Tensor]:
    """The logits, and a token drawn by them: the largest of probability over an exponential variable is one."""
    logits = style.linear(normed(x, norm), head).float()
    probabilities = torch.softmax(logits, 1)
    return logits, (probabilities / torch.empty_like(probabilities).exponential_()).argmax(1)


class Decoder:
    """All state of drawing one prompt's candidates."""

    def __init__(self, model: Model, weights: Weights, candidates: int, style: Style, layer_step, finish_step):
        self.model, self.weights, self.style = model, weights, style
        self.layer_step, self.finish_step = layer_step, finish_step
        dtype = weights.image_embedding.dtype
        head_size = model.hidden // model.heads
        n = model.stream.grid**2
        self.tables = {pattern: PlaceTable(pattern, model.stream) for pattern in PATTERNS}
        self.patterns = [layer_pattern(i + 1, model.layers) for i in range(model.layers)]

        def empty(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        prefix = (model.heads, model.stream.text_length + 1, head_size)
        self.caches = []
        for pattern in self.patterns:
            own = (candidates, model.heads, self.tables[pattern].capacity, head_size)
            self.caches.append(Cache(empty(*prefix), empty(*prefix), empty(*own), empty(*own)))
        self.offsets = image_offsets(weights, model.stream.grid)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)  # of the token that is fed in
        self.token = torch.zeros(candidates, dtype=torch.int64, device=device)
        self.drawn = torch.zeros((candidates, n + 1), dtype=torch.int64, device=device)
        self.logits = torch.zeros((candidates, model.image_vocab), device=device)

    def prefill(self, text: Tensor) -> None:
        """The text, which sees all of itself, then IMG, which sees both; the first token."""
        weights, model = self.weights, self.model
        x = F.embedding(text, weights.text_embedding) + text_offsets(weights)
        start = (weights.image_start + weights.modality[1]).unsqueeze(0)
        x, length = torch.cat([x, start]), len(text) + 1
        mask = torch.ones((length, length), dtype=torch.bool, device=device)
        mask[:-1, -1] = False
        for layer, cache in zip(weights.layers, self.caches):
            qkv = F.linear(normed(x, layer.attention_norm), *layer.query_key_value)
            q, k, v = qkv.view(length, 3, model.heads, -1).permute(1, 2, 0, 3)
            cache.prefix_k.copy_(k)
            cache.prefix_v.copy_(v)
            mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]
            x = x + F.linear(mixed.transpose(0, 1).reshape(length, -1), *layer.attention_out)
            wide = F.gelu(F.linear(normed(x, layer.mlp_norm), *layer.mlp_in), approximate="tanh")
            x = x + F.linear(wide, *layer.mlp_out)
        logits, token = finish_step(x[-1:], weights.final_norm, weights.image_head, self.style)
        self.logits.copy_(logits.expand_as(self.logits))
        self.token.copy_(token.expand_as(self.token))
        self.drawn[:, 0] = self.token
        self.position.zero_()

    def step(self) -> None:
        """Feeds in the last token and draws the next; nothing of it depends on Python's values, so it can be recorded."""
        weights = self.weights
        x = F.embedding(self.token, weights.image_embedding) + self.offsets.index_select(0, self.position)
        places = {pattern: table.at(self.position) for pattern, table in self.tables.items()}
        for layer, cache, pattern in zip(weights.layers, self.caches, self.patterns):
            x = self.layer_step(x, layer, cache, places[pattern], self.model.heads, self.style)
        logits, token = self.finish_step(x, weights.final_norm, weights.image_head, self.style)
        self.logits.copy_(logits)
        self.token.copy_(token)
        self.position.add_(1)
        self.drawn.index_copy_(1, self.position, self.token.unsqueeze(1))


class PlaceTable:
    """A pattern's places of all positions, on the device."""

    def __init__(self, pattern: str, stream: Stream):
        slots = cache_slots(pattern, stream)
        self.capacity = slots.capacity
        self.slot = torch.tensor(slots.slot, device=device)
        # a ring that is looked at as a whole needs no gathering
        whole = pattern == "row"
        self.slots = None if whole else torch.tensor(slots.visible, device=device)
        hidden = ~torch.tensor(slots.counts, device=device)
        self.bias = torch.zeros(hidden.shape, device=device).masked_fill(hidden, float("-inf"))

    def at(self, position: Tensor) -> Place:
        slots = None if self.slots is None else self.slots.index_select(0, position)[0]
        return Place(self.slot.index_select(0, position), slots, self.bias.index_select(0, position)[0])


def full_forward(model: Model, weights: Weights, text: Tensor, image: Tensor) -> Tensor:
    """The logits of every image token, computed at once with masks as matrices: what the steps are checked against."""
    stream = model.stream
    start = (weights.image_start + weights.modality[1]).unsqueeze(0)
    x = torch.cat(
        [
            F.embedding(text, weights.text_embedding) + text_offsets(weights),
            start,
            F.embedding(image, weights.image_embedding) + image_offsets(weights, stream.grid),
        ]
    )
    for i, layer in enumerate(weights.layers):
        seen = matrix_mask(layer_pattern(i + 1, model.layers), "text-to-image", stream)
        qkv = F.linear(normed(x, layer.attention_norm), *layer.query_key_value)
        q, k, v = qkv.view(stream.length, 3, model.heads, -1).permute(1, 2, 0, 3)
        mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=seen)[0]
        x = x + F.linear(mixed.transpose(0, 1).reshape(stream.length, -1), *layer.attention_out)
        wide = F.gelu(F.linear(normed(x, layer.mlp_norm), *layer.mlp_in), approximate="tanh")
        x = x + F.linear(wide, *layer.mlp_out)
    return F.linear(normed(x[stream.text_length : -1], weights.final_norm), *weights.image_head)


@torch.no_grad()
def check_steps(style: Style) -> None:
    """Raises unless steps give what the whole network gives, on a small one in float32."""
    model = Model(hidden=64, heads=2, layers=6, text_vocab=30, image_vocab=40, stream=Stream(5, 6, 5))
    weights = model.weights(torch.float32)
    for tensor in weights.all():
        tensor.mul_(4)  # fresh weights attend to everything alike
    text = torch.randint(model.text_vocab, (model.stream.text_length,), device=device)
    decoder = Decoder(model, weights, 3, style, layer_step, finish_step)
    decoder.prefill(text)
    logits = [decoder.logits.clone()]
    for _ in range(model.stream.grid**2 - 1):
        decoder.step()
        logits.append(decoder.logits.clone())
    for row in range(3):
        expected = full_forward(model, weights, text, decoder.drawn[row, : model.stream.grid**2])
        actual = torch.stack([step[row] for step in logits])
        expect("the logits of the steps", ((actual - expected).norm() / expected.norm()).item(), 1e-4)


def compiled(candidates: int) -> tuple[Callable, Callable]:
    # products by one row reach the memory's bandwidth only as kernels that the compiler tunes
    options = {"coordinate_descent_tuning": True} if candidates == 1 and device.type == "cuda" else None
    compile_ = lambda function: torch.compile(function, dynamic=False, fullgraph=True, options=options)
    return compile_(layer_step), compile_(finish_step)


@torch.no_grad()
def prepare(settings: dict) -> None:
    """Compiles what is not tuned, which would be measured wrongly while others use the device."""
    sizes = settings["decode"]
    # the compiler sees one layer at a time: few layers are as good as all, if each pattern is among them
    model = Model.of({**sizes["config"], "layers": 4})
    for candidates in sizes["candidates"]:
        if candidates > 1:
            decoder = Decoder(model, model.weights(torch.bfloat16), candidates, Style(True), *compiled(candidates))
            decoder.step()


@torch.no_grad()
def measure(settings: dict) -> None:
    check_masks()
    for fused in (False, True):
        check_steps(Style(fused))
    free()
    sizes, samples = settings["decode"], settings["samples"]["call"]
    model = Model.of(sizes["config"])
    weights = model.weights(torch.bfloat16)
    eager = [(candidates, False) for candidates in sizes["candidates"]]
    # tuning for one candidate takes longest: if the time ends there, the others are done
    fused = [(candidates, True) for candidates in sorted(sizes["candidates"], reverse=True)]
    for candidates, compiling in eager + fused:
        by = COMPILED if compiling else TORCH

        def work() -> None:
            functions = compiled(candidates) if compiling else (layer_step, finish_step)
            decoder = Decoder(model, weights, candidates, Style(compiling), *functions)
            times, details = step_times(decoder, sizes, samples)
            report(f"decode/{candidates}", by, times, "wall", **details)

        attempt(f"decode/{candidates}", by, work)


def step_times(decoder: Decoder, sizes: dict, samples: int) -> tuple[list[float], dict]:
    """Milliseconds a token; positions as on our side."""
    text = torch.randint(decoder.model.text_vocab, (decoder.model.stream.text_length,), device=device)
    decoder.prefill(text)
    step, how = decoder.step, "launches"
    if device.type == "cuda":
        step, how = capture(decoder.step), "CUDA graph"
        decoder.prefill(text)
    for _ in range(sizes["warmUp"] - 1):
        step()
    times = []
    for _ in range(samples):
        synchronize()
        begin = time.perf_counter()
        for _ in range(sizes["tokens"]):
            step()
        decoder.drawn.cpu()  # with all tokens so far
        times.append((time.perf_counter() - begin) * 1000 / sizes["tokens"])
    return times, {"how": how}
