"""What benchmarks share: rows, processes, load."""
