"""The masks as PyTorch takes them. Each is made once: torch.compile compiles again for a mask that is another object."""

import functools

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from common import device
from masks import Stream, mask_function

BLOCK = 128  # positions a side of a block: what FlexAttention takes unless told otherwise


@functools.cache
def block_mask(pattern: str, direction: str, stream: Stream) -> BlockMask:
    mask = mask_function(pattern, direction, stream)
    return create_block_mask(mask, None, None, stream.length, stream.length, device=device, BLOCK_SIZE=BLOCK)


@functools.cache
def matrix_mask(pattern: str, direction: str, stream: Stream) -> torch.Tensor:
    positions = torch.arange(stream.length, device=device)
    return mask_function(pattern, direction, stream)(0, 0, positions[:, None], positions[None, :])
