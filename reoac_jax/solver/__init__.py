"""Answers to single problems."""

from reoac_jax.solver.solver import Answer, Solver

__all__ = ["Answer", "Solver"]
