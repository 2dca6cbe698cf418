"""Initialisation, one scheme per file."""
