"""Policies by name, one evaluation, and the search for fixed sequences."""
