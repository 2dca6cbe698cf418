"""TRIAL: paired trainings that measure what a change is worth."""
