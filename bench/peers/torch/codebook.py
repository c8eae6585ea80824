"""The nearest code of many vectors."""

import torch

from common import CDIST, attempt, kernel_times, report, uniform


def prepare(settings: dict) -> None:
    pass


def measure(settings: dict) -> None:
    sizes = settings["codebook"]

    def nearest() -> None:
        vectors = uniform(sizes["rows"], sizes["dim"], dtype=torch.float32)
        codes = uniform(sizes["size"], sizes["dim"], dtype=torch.float32)
        work = lambda: torch.cdist(vectors, codes).argmin(1)
        times, how = kernel_times(work, settings["samples"]["longKernel"], graph=False)
        report("codebook", CDIST, times, "device", **how)

    attempt("codebook", CDIST, nearest)
