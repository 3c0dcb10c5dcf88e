"""The study's parts: what is measured, where it is kept, and what is read from it."""
