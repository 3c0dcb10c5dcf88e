"""Pre-norm decoders that see the whole row: LLaDA, Dream, and Qwen3 and Qwen2 made to diffuse."""

from reoac_jax.backbone.decoder.published import Dream, LLaDA, Qwen2, Qwen3

ARCHITECTURES = (LLaDA(), Dream(), Qwen3(), Qwen2())
