"""Command lines between PyTorch's files and ours, and the reference model in PyTorch."""
