"""Faulty and healthy trainings, built from cases of schema plumbob-fault-case/1."""
