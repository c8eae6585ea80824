"""What the peers share: the device, clocks, and the lines that they print."""

import gc
import json
import math
import statistics
import time
from typing import Callable

import torch

RUNS = 20  # in a row for one time of a kernel, as ours (lib/kernels.ts, `timings`)

# names of bench/gpu/rows.ts
TORCH = "PyTorch"
COMPILED = "PyTorch, torch.compile"
FLEX = "FlexAttention"
MASKED_SDPA = "SDPA with a mask"
CDIST = "torch.cdist + argmin"

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def say(message: dict) -> None:
    print(json.dumps(message), flush=True)


def report(row: str, by: str, times: list[float], clock: str, **details) -> None:
    if device.type == "cpu":
        clock = "wall"
    if len(times) > 1:
        p25, median, p75 = statistics.quantiles(times, n=4, method="inclusive")
    else:
        p25 = median = p75 = times[0]
    entry = {"row": row, "by": by, "median": median, "p25": p25, "p75": p75, "samples": len(times), "clock": clock}
    say({**entry, **({"details": details} if details else {})})


def attempt(rows: str | tuple[str, ...], by: str, work: Callable[[], None]) -> None:
    """Reports why `work` fails instead of stopping the others; frees what it leaves either way."""
    try:
        work()
    except Exception as error:  # whatever PyTorch throws, CUDA's errors and the compiler's among it
        for row in (rows,) if isinstance(rows, str) else rows:
            say({"row": row, "by": by, "failed": describe(error)})
    free()


def describe(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300]


def free() -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize() -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def capture(work: Callable[[], object]) -> Callable[[], None]:
    """Records what `work` launches on the current stream as a CUDA graph; gives what runs it again.

    The current stream must not be the default one, and what `work` differentiates must have been computed on it.
    """
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        work()
    return graph.replay


def kernel_times(work: Callable[[], object], samples: int, graph: bool = True) -> tuple[list[float], dict]:
    """Milliseconds of `work` by the device's clock, each the mean of RUNS in a row, after half as many to warm up.

    A CUDA graph leaves out what Python takes between launches, which for kernels of microseconds would be most of the time.
    """

    def many() -> None:
        for _ in range(RUNS):
            work()

    run, how = many, "launches"
    work()
    if device.type == "cpu":
        return [wall_time(many) / RUNS for _ in range(samples)], {"how": how}
    if graph:
        try:
            run, how = capture(many), "CUDA graph"
        except Exception as error:
            torch.cuda.synchronize()
            how = f"launches, as capturing failed with {describe(error)}"
    times = []
    warm_up = math.ceil(samples / 2)
    for _ in range(warm_up + samples):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / RUNS)
    return times[warm_up:], {"how": how}


def wall_time(work: Callable[[], object]) -> float:
    """Milliseconds from a call to the end of what it started."""
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return (time.perf_counter() - begin) * 1000


def uniform(*shape: int, dtype=torch.bfloat16) -> torch.Tensor:
    """In [-1, 1), as the inputs on our side."""
    return (torch.rand(shape, device=device) * 2 - 1).to(dtype)


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    actual, expected = actual.detach().float(), expected.detach().float()
    return ((actual - expected).norm() / expected.norm()).item()


def expect(what: str, error: float, bound: float) -> None:
    if not error <= bound:
        raise AssertionError(f"expected {what} within {bound}, found {error}")
