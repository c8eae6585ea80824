"""The decoder of taming-transformers' VQGAN (docs/model.md, section 6): channels last, bfloat16."""

import torch
import torch.nn.functional as F
from torch import nn

from common import COMPILED, TORCH, attempt, device, report, wall_time

Tensor = torch.Tensor

WARM_UP = 2


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    def __init__(self, ins: int, outs: int):
        super().__init__()
        self.norm1, self.conv1 = norm(ins), nn.Conv2d(ins, outs, 3, padding=1)
        self.norm2, self.conv2 = norm(outs), nn.Conv2d(outs, outs, 3, padding=1)
        self.shortcut = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return self.shortcut(x) + h


class AttentionBlock(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm = norm(channels)
        self.q, self.k, self.v, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # (pictures, 1 head, pixels, channels): no copies where channels are last
        q, k, v = (part(h).flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.out(mixed)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Decoder(nn.Module):
    """From the codes of the vectors to the picture."""

    def __init__(self, config: dict):
        super().__init__()
        multipliers, channels = config["multipliers"], config["channels"]
        last = len(multipliers) - 1
        self.grid = config["resolution"] >> last
        self.codebook = nn.Embedding(config["codebookSize"], config["codebookDim"])
        widest = channels * multipliers[last]
        layers: list[nn.Module] = [
            nn.Conv2d(config["codebookDim"], config["latentChannels"], 1),
            nn.Conv2d(config["latentChannels"], widest, 3, padding=1),
            ResidualBlock(widest, widest),
            AttentionBlock(widest),
            ResidualBlock(widest, widest),
        ]
        ins = widest
        for level in range(last, -1, -1):
            outs = channels * multipliers[level]
            for _ in range(config["residualBlocks"] + 1):
                layers.append(ResidualBlock(ins, outs))
                if config["resolution"] >> level in config["attentionResolutions"]:
                    layers.append(AttentionBlock(outs))
                ins = outs
            if level > 0:
                layers.append(Upsample(outs))
        layers += [norm(ins), nn.SiLU(), nn.Conv2d(ins, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, indices: Tensor) -> Tensor:
        codes = self.codebook(indices).unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        return self.layers(codes).float()


def make_decoder(settings: dict) -> Decoder:
    torch.backends.cudnn.benchmark = True
    decoder = Decoder(settings["vqgan"]["config"]).to(device, torch.bfloat16)
    return decoder.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def make_indices(settings: dict, images: int) -> Tensor:
    config = settings["vqgan"]["config"]
    grid = config["resolution"] >> (len(config["multipliers"]) - 1)
    return torch.randint(config["codebookSize"], (images, grid**2), device=device)


kept: list[nn.Module] = []


def compiled_decoder(settings: dict) -> nn.Module:
    """The same at every call, and with it what has been compiled."""
    if not kept:
        kept.append(torch.compile(make_decoder(settings), dynamic=False))
    return kept[0]


@torch.no_grad()
def prepare(settings: dict) -> None:
    for images in settings["vqgan"]["images"]:
        compiled_decoder(settings)(make_indices(settings, images))


@torch.no_grad()
def measure(settings: dict) -> None:
    samples = settings["samples"]["call"]
    for images in settings["vqgan"]["images"]:
        indices = make_indices(settings, images)
        for by, make in ((TORCH, make_decoder), (COMPILED, compiled_decoder)):

            def work() -> None:
                decoder = make(settings)
                decode = lambda: decoder(indices).cpu()  # to the host, as ours
                wanted = samples * 4 if images == 1 else samples
                times = [wall_time(decode) for _ in range(WARM_UP + wanted)][WARM_UP:]
                report(f"vqgan/{images}", by, times, "wall")

            attempt(f"vqgan/{images}", by, work)
