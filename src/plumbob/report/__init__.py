"""TELL: the report and one file per format."""
