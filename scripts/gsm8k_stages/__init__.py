"""The chain from data to table on GSM8K: its sizes, stages, costs, and how they are run."""
