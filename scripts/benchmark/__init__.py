"""What `scripts/bench.py` times: our programs, a PyTorch reference, the machine itself."""
