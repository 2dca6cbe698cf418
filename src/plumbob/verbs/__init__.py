"""One file is one verb."""
