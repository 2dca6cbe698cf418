"""Terms added to a loss that tell weights from biases, one per file."""
