"""Attention by pattern, text to image: FlexAttention with the same mask, and SDPA with the mask as a matrix."""

import math
from typing import Callable

import torch
import torch._dynamo
import torch._functorch.config
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from blocks import block_mask, matrix_mask
from common import FLEX, MASKED_SDPA, attempt, device, expect, kernel_times, relative_error, report, uniform
from masks import PATTERNS, check_masks, stream_of

torch._dynamo.config.recompile_limit = 64  # a compilation for each pattern and batch
# each backward pass is run again and again over the same saved tensors
torch._functorch.config.donated_buffer = False
# compiled backward passes exist on GPUs alone
flex = torch.compile(flex_attention, dynamic=False) if device.type == "cuda" else flex_attention


class Problem:
    def __init__(self, sizes: dict, pattern: str, batch: int):
        stream = stream_of(sizes)
        shape = (batch, sizes["heads"], stream.length, sizes["headSize"])
        self.q, self.k, self.v = (uniform(*shape).requires_grad_() for _ in range(3))
        self.dout = uniform(*shape)
        self.block_mask = block_mask(pattern, "text-to-image", stream)
        self.mask = matrix_mask(pattern, "text-to-image", stream)

    def flex(self) -> torch.Tensor:
        return flex(self.q, self.k, self.v, block_mask=self.block_mask)

    def sdpa(self) -> torch.Tensor:
        return F.scaled_dot_product_attention(self.q, self.k, self.v, attn_mask=self.mask)

    def gradients(self, out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(out, (self.q, self.k, self.v), self.dout, retain_graph=True)


def prepare(settings: dict) -> None:
    sizes = settings["attention"]
    for batch in sizes["batches"]:
        for pattern in PATTERNS:
            problem = Problem(sizes, pattern, batch)
            problem.gradients(problem.flex())


def measure(settings: dict) -> None:
    check_masks()
    sizes = settings["attention"]
    for batch in sizes["batches"]:
        samples = math.ceil(settings["samples"]["kernel"] / batch)
        for pattern in PATTERNS:
            measure_pattern(sizes, pattern, batch, samples)


def measure_pattern(sizes: dict, pattern: str, batch: int, samples: int) -> None:
    def row(part: str) -> str:
        return f"attention/{pattern}/{part}/{batch}"

    def both(by: str, forward: Callable[[Problem], torch.Tensor], count: int) -> Callable[[], None]:
        def work() -> None:
            problem = Problem(sizes, pattern, batch)
            out = forward(problem)
            if by == FLEX:
                expected = problem.sdpa()
                expect("the output", relative_error(out, expected), 2e-2)
                for name, actual, wanted in zip("qkv", problem.gradients(out), problem.gradients(expected)):
                    expect(f"the gradient of {name}", relative_error(actual, wanted), 4e-2)
                del expected
            times, how = kernel_times(lambda: forward(problem), count)
            report(row("forward"), by, times, "device", **how)
            times, how = kernel_times(lambda: problem.gradients(out), count)
            report(row("backward"), by, times, "device", **how)

        return work

    rows = (row("forward"), row("backward"))
    attempt(rows, FLEX, both(FLEX, Problem.flex, samples))
    attempt(rows, MASKED_SDPA, both(MASKED_SDPA, Problem.sdpa, max(2, samples // 6)))
