"""The peers in PyTorch: main.py about, or main.py <group> --settings <JSON> [--cpu]. Started by bench/gpu/peers.ts.

A group gets ready first (it compiles what torch.compile compiles), prints {"ready": <group>}, waits for a line on its input, and then
measures; every line of JSON that it prints after that is an entry of bench/gpu/records.ts.
"""

import argparse
import glob
import importlib
import json
import os
import platform
import sys

GROUPS = ("ceilings", "attention", "decode", "train", "vqgan", "codebook")


def find_cublas_lt(torch_folder: str) -> str | None:
    packages = os.path.dirname(torch_folder)
    found = glob.glob(os.path.join(packages, "nvidia", "*", "lib", "libcublasLt.so*"))
    return sorted(found)[-1] if found else None


def about() -> dict:
    said: dict = {"python": platform.python_version()}
    try:
        import torch
    except Exception as error:  # not only ImportError: a PyTorch whose libraries do not load
        return {**said, "missing": f"{type(error).__name__}: {error}"}
    there = torch.cuda.is_available()
    return {
        **said,
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "none",
        "device": torch.cuda.get_device_name() if there else None,
        "cublasLt": find_cublas_lt(os.path.dirname(torch.__file__)),
    }


def run(group: str, settings: dict) -> None:
    import torch

    from common import describe, device, free, say

    torch.manual_seed(1)
    if device.type == "cuda":
        # a stream of its own: the default one cannot be captured
        torch.cuda.set_stream(torch.cuda.Stream())
    module = importlib.import_module(group)
    try:
        module.prepare(settings)
    except Exception as error:  # what cannot be prepared will say so again when it is measured
        print(f"{group} could not get ready: {describe(error)}", file=sys.stderr)
    free()
    say({"ready": group})
    if not sys.stdin.readline():
        return  # nobody waits any longer
    module.measure(settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("about", *GROUPS))
    parser.add_argument("--settings", type=json.loads, help="bench/gpu/settings.ts as JSON")
    parser.add_argument("--cpu", action="store_true", help="without a GPU, to try the scripts")
    given = parser.parse_args()
    if given.what == "about":
        print(json.dumps(about()), flush=True)
        return
    if given.settings is None:
        parser.error("expected --settings")
    import torch

    if not given.cpu and not torch.cuda.is_available():
        parser.error("PyTorch sees no CUDA device")
    run(given.what, given.settings)
    # what Python and the compiler's helpers take to end is nobody's time
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
