"""Where readings and findings go; one file is one place."""
