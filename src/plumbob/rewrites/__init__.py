"""Rewrites: one file, one identity."""
