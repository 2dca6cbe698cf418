"""What `benchmarks/rewrites.py` compares: nets, tools, and how they are measured."""
