"""Benchmarks: ratios measured in one run, printed as a table and written to out/TARGET.json."""
