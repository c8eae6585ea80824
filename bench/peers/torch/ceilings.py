"""A copy of the device's memory, and a large matrix product."""

import torch

from common import TORCH, attempt, device, kernel_times, report, uniform


def prepare(settings: dict) -> None:
    pass


def measure(settings: dict) -> None:
    samples = settings["samples"]["longKernel"]

    def copy() -> None:
        words = settings["ceilings"]["copyBytes"] // 4
        source = torch.randint(2**31 - 1, (words,), dtype=torch.int32, device=device)
        target = torch.empty_like(source)
        times, how = kernel_times(lambda: target.copy_(source), samples, graph=False)
        report("copy", TORCH, times, "device", **how)

    def matmul() -> None:
        side = settings["ceilings"]["matmulSide"]
        a, b = uniform(side, side), uniform(side, side)
        times, how = kernel_times(lambda: torch.mm(a, b), samples, graph=False)
        report("matmul", TORCH, times, "device", **how)

    attempt("copy", TORCH, copy)
    attempt("matmul", TORCH, matmul)
