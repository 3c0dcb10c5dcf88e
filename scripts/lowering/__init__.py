"""What `scripts/lower_for_cuda.py` lowers, how, and what it reads in the result."""
