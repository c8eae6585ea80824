"""The weights of the transformer (docs/model.md, section 3) as plain tensors, and the parts that decoding and training share."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from common import device
from masks import Stream, stream_of

Tensor = torch.Tensor


class Linear(NamedTuple):
    weight: Tensor
    bias: Tensor


class Norm(NamedTuple):
    weight: Tensor
    bias: Tensor


class Layer(NamedTuple):
    attention_norm: Norm
    query_key_value: Linear
    attention_out: Linear
    mlp_norm: Norm
    mlp_in: Linear
    mlp_out: Linear


class Weights(NamedTuple):
    text_embedding: Tensor
    image_embedding: Tensor
    image_start: Tensor
    text_position: Tensor
    row_position: Tensor
    column_position: Tensor
    modality: Tensor
    layers: list[Layer]
    final_norm: Norm
    text_head: Linear
    image_head: Linear

    def all(self) -> list[Tensor]:
        """Every tensor."""

        def flat(value) -> list[Tensor]:
            return [value] if isinstance(value, Tensor) else [leaf for part in value for leaf in flat(part)]

        return flat(tuple(self))


class Model(NamedTuple):
    hidden: int
    heads: int
    layers: int
    text_vocab: int
    image_vocab: int
    stream: Stream

    @staticmethod
    def of(config: dict) -> "Model":
        return Model(
            config["hidden"],
            config["heads"],
            config["layers"],
            config["textVocab"],
            config["imageVocab"],
            stream_of(config),
        )

    def weights(self, dtype: torch.dtype) -> Weights:
        """Fresh ones: normal, 0.02, the two that add to the residual stream smaller."""
        hidden, stream = self.hidden, self.stream
        residual = 0.02 / (2 * self.layers) ** 0.5

        def normal(*shape: int, std: float = 0.02) -> Tensor:
            return torch.randn(shape, dtype=dtype, device=device).mul_(std)

        def linear(outs: int, ins: int, std: float = 0.02) -> Linear:
            return Linear(normal(outs, ins, std=std), torch.zeros(outs, dtype=dtype, device=device))

        def norm() -> Norm:
            return Norm(
                torch.ones(hidden, dtype=dtype, device=device), torch.zeros(hidden, dtype=dtype, device=device)
            )

        def layer() -> Layer:
            return Layer(
                norm(),
                linear(3 * hidden, hidden),
                linear(hidden, hidden, residual),
                norm(),
                linear(4 * hidden, hidden),
                linear(hidden, 4 * hidden, residual),
            )

        return Weights(
            normal(self.text_vocab, hidden),
            normal(self.image_vocab, hidden),
            normal(hidden),
            normal(stream.text_length, hidden),
            normal(stream.grid, hidden),
            normal(stream.grid, hidden),
            normal(2, hidden),
            [layer() for _ in range(self.layers)],
            norm(),
            linear(self.text_vocab, hidden),
            linear(self.image_vocab, hidden),
        )


def normed(x: Tensor, norm: Norm) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)


def image_offsets(weights: Weights, grid: int) -> Tensor:
    """What is added to the embedding of the image token at every position."""
    rows = weights.row_position.repeat_interleave(grid, 0)
    columns = weights.column_position.repeat(grid, 1)
    return rows + columns + weights.modality[1]


def text_offsets(weights: Weights) -> Tensor:
    return weights.text_position + weights.modality[0]
