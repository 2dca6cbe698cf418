"""Whose training loop is watched: one file per framework that has its own loop."""
