"""Pre-norm decoders that see the whole row: LLaDA, Dream, and Qwen3 and Qwen2 made to diffuse."""
