"""Devices and processes: meshes, collectives, compiled programs."""
