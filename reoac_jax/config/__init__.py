"""Configurations: read, changed on the command line, checked whole, then frozen."""

from reoac_jax.config.loading import (
    config_hash,
    load_config,
    parse_command_line,
    parse_options,
    to_json,
    validate,
)
from reoac_jax.config.schema import SCHEMA, Option

__all__ = [
    "SCHEMA",
    "Option",
    "config_hash",
    "load_config",
    "parse_command_line",
    "parse_options",
    "to_json",
    "validate",
]
