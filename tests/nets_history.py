"""The zoo's trainings: runs with exactly one fault each, and their healthy twins.

HISTORY maps the code of each rule of a run to its function, which takes `leans` and
returns a closed watch, as ZOO of nets.py does for models. Each room has a file.
"""

import nets_history_loss
import nets_history_steps
import nets_history_units

HISTORY = dict(
    sorted(
        (
            nets_history_loss.HISTORY_CASES
            | nets_history_steps.HISTORY_CASES
            | nets_history_units.HISTORY_CASES
        ).items()
    )
)
