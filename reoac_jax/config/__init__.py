"""Configurations: read from a file, changed on the command line, checked whole, then frozen."""

from reoac_jax.config.loading import (
    base,
    config_hash,
    load_config,
    parse_command_line,
    parse_options,
    to_json,
    validate,
)
from reoac_jax.config.rooms import dependent_options, fixed_options
from reoac_jax.config.schema import Option

__all__ = [
    "Option",
    "base",
    "config_hash",
    "dependent_options",
    "fixed_options",
    "load_config",
    "parse_command_line",
    "parse_options",
    "to_json",
    "validate",
]
