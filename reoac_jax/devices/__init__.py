"""Devices and processes: meshes, exchange between processes, compiled programs."""
