"""The tasks themselves: one file each, found by listing this folder (docs/extending.md)."""
