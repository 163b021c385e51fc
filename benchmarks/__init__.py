"""Every figure against its peers, in the same run, interleaved: ``python -m benchmarks``."""
