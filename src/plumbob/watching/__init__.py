"""A running training watched: readings joined, judged on the way, and passed on."""
