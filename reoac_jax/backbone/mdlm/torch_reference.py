"""The published MDLM architecture in plain eager PyTorch, the reference of every conversion.

Written from DESIGN.md section 3; module names give the published state dict's keys
(`backbone.blocks.0.attn_qkv.weight`). No fused kernels, no padding mask: rows of a call share one
length, so a ragged batch is checked row by row.
"""

import json
from pathlib import Path
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

SINUSOID_WIDTH = 256
_SIZES = (
    "vocab_size", "hidden_dim", "cond_dim", "n_blocks", "n_heads", "dropout", "time_conditioning",
)  # fmt: skip


class TorchOutput(NamedTuple):
    """logits: [B, L, V]. hidden: [B, L, D], the last block's output before the final layer."""

    logits: Tensor
    hidden: Tensor


class LayerNorm(nn.Module):
    """Float32 layer normalisation, epsilon 1e-5, with weight and without bias."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), (x.shape[-1],), self.weight.float(), eps=1e-5).to(x.dtype)


class Rotary(nn.Module):
    """Rotary embedding of the whole head width in the two-halves form, base 10 000."""

    inv_freq: Tensor

    def __init__(self, head_dim: int):
        super().__init__()
        exponents = torch.arange(0, head_dim, 2).float() / head_dim
        self.register_buffer("inv_freq", 1.0 / (10000**exponents))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, L, H, head_dim]; the same, rotated by position."""
        positions = torch.arange(x.shape[1], device=x.device).float()
        angles = torch.outer(positions, self.inv_freq.float())
        cos, sin = angles.cos()[:, None, :].to(x.dtype), angles.sin()[:, None, :].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Embedding(nn.Module):
    """Token embedding; the published key is `vocab_embed.embedding`, not `.weight`."""

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, width).uniform_(-0.1, 0.1))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding[tokens]


class SigmaMap(nn.Module):
    """Sinusoid of sigma (cosines first), linear, silu, linear."""

    def __init__(self, cond_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(SINUSOID_WIDTH, cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim)
        )

    def forward(self, sigma: Tensor) -> Tensor:
        """sigma: [B]; [B, cond_dim]."""
        half = SINUSOID_WIDTH // 2
        steps = torch.arange(half, device=sigma.device, dtype=torch.float32)
        frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * steps / half)
        angles = sigma.float()[:, None] * frequencies
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return self.mlp(sinusoid.to(next(self.mlp.parameters()).dtype))


class Block(nn.Module):
    """Attention and MLP, each modulated and gated by the conditioning vector."""

    def __init__(self, width: int, heads: int, cond_dim: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = LayerNorm(width)
        self.attn_qkv = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.norm2 = LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.adaLN_modulation = nn.Linear(cond_dim, 6 * width)

    def attention(self, x: Tensor, rotary: Rotary) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.attn_qkv(x).view(batch, length, 3, self.heads, width // self.heads).unbind(2)
        q, k, v = (y.transpose(1, 2) for y in (rotary(q), rotary(k), v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.attn_out(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor, c: Tensor, rotary: Rotary) -> Tensor:
        chunks = self.adaLN_modulation(c)[:, None, :].chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = chunks
        attended = self.attention(self.norm1(x) * (1 + scale_a) + shift_a, rotary)
        x = x + gate_a * F.dropout(attended, self.dropout, self.training)
        mixed = self.mlp(self.norm2(x) * (1 + scale_m) + shift_m)
        return x + gate_m * F.dropout(mixed, self.dropout, self.training)


class FinalLayer(nn.Module):
    """Modulated normalisation and the output matrix."""

    def __init__(self, width: int, vocab_size: int, cond_dim: int):
        super().__init__()
        self.norm_final = LayerNorm(width)
        self.linear = nn.Linear(width, vocab_size)
        self.adaLN_modulation = nn.Linear(cond_dim, 2 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c)[:, None, :].chunk(2, dim=-1)
        return self.linear(self.norm_final(x) * (1 + scale) + shift)


class Denoiser(nn.Module):
    """The published model's `backbone` attribute."""

    def __init__(
        self, vocab_size: int, hidden_dim: int, cond_dim: int, n_blocks: int, n_heads: int,
        dropout: float, time_conditioning: bool,
    ):  # fmt: skip
        super().__init__()
        self.time_conditioning = time_conditioning
        self.vocab_embed = Embedding(vocab_size, hidden_dim)
        self.sigma_map = SigmaMap(cond_dim)
        self.rotary_emb = Rotary(hidden_dim // n_heads)
        self.blocks = nn.ModuleList(
            Block(hidden_dim, n_heads, cond_dim, dropout) for _ in range(n_blocks)
        )
        self.output_layer = FinalLayer(hidden_dim, vocab_size, cond_dim)

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> TorchOutput:
        if not self.time_conditioning:
            sigma = torch.zeros(tokens.shape[0], device=tokens.device)
        elif sigma is None:
            raise ValueError("a time-conditioned backbone needs sigma, float32 [B]")
        c = F.silu(self.sigma_map(sigma))
        x = self.vocab_embed(tokens)
        for block in self.blocks:
            x = block(x, c, self.rotary_emb)
        return TorchOutput(logits=self.output_layer(x, c), hidden=x)


class MDLM(nn.Module):
    """The published model; `state_dict()` has the published keys."""

    def __init__(
        self, *, vocab_size: int, hidden_dim: int, cond_dim: int, n_blocks: int, n_heads: int,
        dropout: float = 0.0, time_conditioning: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.backbone = Denoiser(
            vocab_size, hidden_dim, cond_dim, n_blocks, n_heads, dropout, time_conditioning
        )

    def forward(self, tokens: Tensor, sigma: Tensor | None = None) -> TorchOutput:
        """tokens: int64 [B, L], rows of one length; sigma: float32 [B] or None."""
        return self.backbone(tokens, sigma)

    @property
    def mask_id(self) -> int:
        """The mask is the last token id."""
        return self.backbone.vocab_embed.embedding.shape[0] - 1

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """The model of a folder with `config.json` and `model.safetensors`, in float32."""
        fields = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        model = cls(**{name: fields[name] for name in _SIZES})
        model.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        return model.eval()
