"""Our figures and those of our peers, measured in turn in the same run: ``python -m benchmarks``."""
