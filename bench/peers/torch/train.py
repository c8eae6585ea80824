"""A training step of the generator: both directions of the same pairs, products in bfloat16, clipping and AdamW.

What lies between two attentions is one function for all layers, which torch.compile compiles once: the projection out of one attention,
the perceptron, and the projection into the next layer's, with everything fused that can be. Attention is FlexAttention.
"""

import math

import torch
import torch._dynamo
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from blocks import block_mask, matrix_mask
from common import COMPILED, attempt, device, report, wall_time
from generator import Layer, Linear, Model, Norm, Weights, image_offsets, normed, text_offsets
from masks import DIRECTIONS, check_masks, layer_pattern

Tensor = torch.Tensor

torch._dynamo.config.recompile_limit = 64

WARM_UP = 3


def embed(weights: Weights, text: Tensor, image: Tensor, direction: str, grid: int) -> Tensor:
    texts = F.embedding(text, weights.text_embedding) + text_offsets(weights)
    images = F.embedding(image, weights.image_embedding) + image_offsets(weights, grid)
    start = (weights.image_start + weights.modality[1]).expand(len(text), 1, -1)
    return torch.cat([texts, start, images] if direction == "text-to-image" else [start, images, texts], 1)


def project(x: Tensor, norm: Norm, linear: Linear) -> Tensor:
    return F.linear(normed(x, norm), *linear)


def rest_of_layer(x: Tensor, attended: Tensor, layer: Layer) -> Tensor:
    x = x + F.linear(attended, *layer.attention_out)
    wide = F.gelu(F.linear(normed(x, layer.mlp_norm), *layer.mlp_in), approximate="tanh")
    return x + F.linear(wide, *layer.mlp_out)


def enter(
    weights: Weights, text: Tensor, image: Tensor, direction: str, grid: int, norm: Norm, query_key_value: Linear
) -> tuple[Tensor, Tensor]:
    x = embed(weights, text, image, direction, grid)
    return x, project(x, norm, query_key_value)


def attend(qkv: Tensor, heads: int, mask) -> Tensor:
    """`mask`: blocks for FlexAttention, or a matrix where it has no backward pass: on the CPU."""
    pairs, n, channels = qkv.shape
    q, k, v = qkv.view(pairs, n, 3, heads, channels // 3 // heads).permute(2, 0, 3, 1, 4).unbind()
    if isinstance(mask, Tensor):
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    else:
        mixed = flex_attention(q, k, v, block_mask=mask)
    return mixed.transpose(1, 2).reshape(pairs, n, -1)


def between(x: Tensor, attended: Tensor, layer: Layer, norm: Norm, query_key_value: Linear) -> tuple[Tensor, Tensor]:
    x = rest_of_layer(x, attended, layer)
    return x, project(x, norm, query_key_value)


def leave(
    x: Tensor, attended: Tensor, layer: Layer, norm: Norm, head: Linear, first: int, targets: Tensor
) -> Tensor:
    """The mean loss of the rows from `first` on, as many as there are targets."""
    x = rest_of_layer(x, attended, layer)[:, first : first + targets.shape[1]]
    logits = project(x, norm, head)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


class Step:
    def __init__(self, settings: dict):
        sizes = settings["train"]
        self.model = Model.of(sizes["config"])
        self.weights = self.model.weights(torch.float32)
        self.parameters = [tensor.requires_grad_() for tensor in self.weights.all()]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=sizes["learningRate"],
            betas=(0.9, 0.95),
            eps=1e-8,
            weight_decay=0.0,
            fused=True,
        )
        stream, pairs = self.model.stream, sizes["pairs"]
        self.text = torch.randint(self.model.text_vocab, (pairs, stream.text_length), device=device)
        self.image = torch.randint(self.model.image_vocab, (pairs, stream.grid**2), device=device)
        on_gpu = device.type == "cuda"
        compile_ = (lambda function: torch.compile(function, dynamic=False)) if on_gpu else (lambda function: function)
        self.enter, self.attend = compile_(enter), compile_(attend)
        self.between, self.leave = compile_(between), compile_(leave)
        self.patterns = [layer_pattern(i + 1, self.model.layers) for i in range(self.model.layers)]
        self.mask = block_mask if on_gpu else matrix_mask

    def loss(self, direction: str) -> Tensor:
        weights, stream = self.weights, self.model.stream
        norm, query_key_value = weights.layers[0].attention_norm, weights.layers[0].query_key_value
        # without the layers, whose number the compiler would remember
        tables = weights._replace(layers=[])
        x, qkv = self.enter(tables, self.text, self.image, direction, stream.grid, norm, query_key_value)
        for i, (layer, pattern) in enumerate(zip(weights.layers, self.patterns)):
            attended = self.attend(qkv, self.model.heads, self.mask(pattern, direction, stream))
            if i + 1 < len(weights.layers):
                following = weights.layers[i + 1]
                x, qkv = self.between(x, attended, layer, following.attention_norm, following.query_key_value)
        if direction == "text-to-image":
            head, first, targets = weights.image_head, stream.text_length, self.image
        else:
            head, first, targets = weights.text_head, 1 + stream.grid**2, self.text[:, 1:]
        return self.leave(x, attended, layer, weights.final_norm, head, first, targets)

    def take(self) -> float:
        total = 0.0
        for direction in DIRECTIONS:
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = self.loss(direction)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=device.type == "cuda")
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total.item()


def prepare(settings: dict) -> None:
    sizes = settings["train"]
    # the compiler sees one layer at a time: few layers are as good as all, if each pattern is among them
    few = {**settings, "train": {**sizes, "config": {**sizes["config"], "layers": 4}}}
    Step(few).take()


def measure(settings: dict) -> None:
    check_masks()

    def work() -> None:
        step = Step(settings)
        losses: list[float] = []
        take = lambda: losses.append(step.take())
        times = [wall_time(take) for _ in range(WARM_UP + settings["samples"]["call"])][WARM_UP:]
        if not losses[-1] < losses[0]:
            raise AssertionError(f"expected a loss below {losses[0]}, that of the first step, found {losses[-1]}")
        chance = math.log(step.model.image_vocab) + math.log(step.model.text_vocab)
        if not abs(losses[0] / chance - 1) < 0.1:
            raise AssertionError(f"expected fresh weights to lose about {chance}, found {losses[0]}")
        report("train", COMPILED, times, "wall", firstLoss=losses[0], lastLoss=losses[-1])

    attempt("train", COMPILED, work)
