"""Losses, replay and the updates; what an iteration of training does."""
