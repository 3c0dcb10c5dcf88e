"""The same forward pass and updates in plain PyTorch, eager or compiled, over the same weights and
rows.

It knows no padding mask: padded positions are computed and attended to, as in a first version that
anyone would write.
"""

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.inputs import Inputs
from benchmark.measure import Program
from benchmark.workload import Workload, forward_operations, weight_bytes
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.backbone.published import from_flax
from reoac_jax.convert.mdlm_torch import MDLM

LORA_RANK, LORA_SCALE = 8, 2.0


class LoraLinear(nn.Module):
    """`base(x) + scale * x A B`; the base is frozen."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base.requires_grad_(False)
        bound = base.in_features**-0.5
        self.a = nn.Parameter(torch.empty(base.in_features, LORA_RANK).uniform_(-bound, bound))
        self.b = nn.Parameter(torch.zeros(LORA_RANK, base.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + LORA_SCALE * (x @ self.a @ self.b)


def make_model(workload: Workload, inputs: Inputs, dropout: float) -> MDLM:
    config = workload.config
    model = MDLM(
        vocab_size=config.vocab_size, hidden_dim=config.hidden_dim, cond_dim=config.cond_dim,
        n_blocks=config.n_blocks, n_heads=config.n_heads, dropout=dropout,
    )  # fmt: skip
    tensors = from_flax(config, inputs.params)
    model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    return model.to(_device())


def forward_program(
    workload: Workload, inputs: Inputs, dtype: str, compiled: bool = False
) -> Program:
    """A forward pass with the logits of all positions and nothing after it."""
    model = make_model(workload, inputs, dropout=0.0).eval()
    forward = torch.compile(model) if compiled else model
    count = workload.rows
    tokens = _rows(inputs, count)

    def run() -> float:
        with torch.inference_mode(), _autocast(dtype):
            logits = forward(tokens).logits
        _synchronise()
        return float(logits[0, 0, :8].float().sum())

    real = inputs.lengths[:count] + workload.gen_len
    return Program(
        name=f"forward, PyTorch {_how(compiled)}{dtype}",
        run=run,
        operations=forward_operations(workload.config, real, workload.gen_len),
        bytes=weight_bytes(workload.config, 4),
        rows=count,
        dtype=dtype,
        computed_tokens=float(tokens.numel()),
        needed_tokens=float(real.sum()),
    )


def update_program(
    workload: Workload, inputs: Inputs, mode: str, dtype: str, compiled: bool = False
) -> Program:
    """One step of AdamW on the weighted cross-entropy at the written positions."""
    model = make_model(workload, inputs, dropout=0.1).train()
    count, gen_len = workload.update_rows, workload.gen_len
    if mode == "lora":
        model.requires_grad_(False)
        for block in model.backbone.blocks:
            block.attn_qkv = LoraLinear(block.attn_qkv).to(_device())
            block.attn_out = LoraLinear(block.attn_out).to(_device())
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-6, weight_decay=0.01)
    tokens = _rows(inputs, count)
    place = torch.from_numpy(inputs.lengths[:count, None] + np.arange(gen_len)).to(_device())
    reference = torch.from_numpy(inputs.reference[:count]).long().to(_device())
    written = torch.from_numpy(inputs.generated[:count] == workload.config.mask_id).to(_device())
    weight = torch.linspace(0.1, 1.0, count, device=_device())[:, None] * written
    network = model.backbone

    def loss_of(tokens: Tensor) -> Tensor:
        # As `network(tokens)`, but with the head at the generated positions only.
        c = F.silu(network.sigma_map(torch.zeros(count, device=tokens.device)))
        x = network.vocab_embed(tokens)
        for block in network.blocks:
            x = block(x, c, network.rotary_emb)
        x = x.gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
        logits = network.output_layer(x, c).float()
        logits = logits.index_fill(-1, mask, -torch.inf)
        nats = F.cross_entropy(logits.flatten(0, 1), reference.flatten(), reduction="none")
        return (nats.view_as(weight) * weight).sum() / written.sum()

    mask = torch.tensor([workload.config.mask_id], device=_device())
    forward = torch.compile(loss_of) if compiled else loss_of

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(dtype):
            loss = forward(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        _synchronise()
        return float(loss.detach())

    real = inputs.lengths[:count] + gen_len
    passes = 2 if mode == "lora" else 3
    return Program(
        name=f"{mode} update, PyTorch {_how(compiled)}{dtype}",
        run=run,
        operations=passes * forward_operations(workload.config, real, gen_len),
        bytes=passes * float(weight_bytes(workload.config, 4)),
        rows=count,
        dtype=dtype,
        computed_tokens=float(tokens.numel()),
        needed_tokens=float(real.sum()),
    )


def _rows(inputs: Inputs, count: int) -> Tensor:
    rows, _ = assemble_rows(
        inputs.prompt[:count], inputs.lengths[:count], inputs.generated[:count], 0
    )
    return torch.from_numpy(np.array(rows)).long().to(_device())


def _how(compiled: bool) -> str:
    return "compiled " if compiled else ""


def _device() -> str:
    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def _autocast(dtype: str) -> torch.autocast:
    return torch.autocast(_device(), torch.bfloat16, enabled=dtype == "bfloat16")


def _synchronise() -> None:
    if _device() == "cuda":
        torch.cuda.synchronize()
