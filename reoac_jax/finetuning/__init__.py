"""Supervised fine-tuning: MDLM's objective, its jitted step, and what is measured on the way."""
