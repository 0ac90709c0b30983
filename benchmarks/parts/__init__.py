"""What the benchmarks share: starting things, counting CPU, the closing line."""
