"""The readings of a probe inside a training loop, at the price of a glance."""
