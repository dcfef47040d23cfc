"""The library's own small net for texts: for tests and the demo."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..specs import TextSpec
from .registry import register

NUM_TOKENS, MAX_LENGTH, WIDTH = 4096, 128, 128
PAD_ID = 0
_HOME = Path(__file__).parent


class TinyLayer(nn.Module):
    """Attention and a feed-forward net, each behind a norm and beside a shortcut.

    Vaswani et al., arXiv:1706.03762, with the norms in front: Xiong et al., arXiv:2002.04745.
    """

    def __init__(self, width: int, *, num_heads: int = 4, hidden: int = 384) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Turn the states of tokens, (B, L, F), into others that have seen each other."""
        batch, length, width = states.shape
        shape = (batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = self.qkv(self.norm1(states)).view(shape).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :].bool()
        )
        states = states + self.dropout(self.out(seen.transpose(1, 2).reshape(states.shape)))
        inner = functional.gelu(self.up(self.norm2(states)))
        outer: Tensor = states + self.dropout(self.down(inner))
        return outer


class TinyTextNet(nn.Module):
    """Embeddings of 4,096 pieces of words and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(NUM_TOKENS, WIDTH)
        self.places = nn.Embedding(MAX_LENGTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.layers = nn.ModuleList(TinyLayer(WIDTH) for _ in range(2))
        self.norm = nn.LayerNorm(WIDTH)
        # Words that are far larger than places: a bag of them is a good start for a sentence.
        nn.init.normal_(self.words.weight, std=0.3)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn tokens, (B, L), into the states of all of them, (B, L, F)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        states: Tensor = self.dropout(self.words(input_ids) + self.places(places))
        for layer in self.layers:
            states = layer(states, attention_mask)
        normed: Tensor = self.norm(states)
        return normed


def tiny_spec(tokenizer: str) -> TextSpec:
    """Answer with what the net wants to see, given its tokenizer as JSON."""
    return TextSpec(tokenizer=tokenizer, pad_id=PAD_ID, max_length=MAX_LENGTH)


@register(
    "mealkit_tiny_text.v1",
    input=tiny_spec((_HOME / "mealkit_tiny_text.v1.json").read_text(encoding="utf-8")),
    weights="mealkit_tiny_text.v1.safetensors",
    licence="Apache-2.0",
)
def mealkit_tiny_text_v1() -> nn.Module:
    """Encoder of 0.9 M parameters."""
    return TinyTextNet()
