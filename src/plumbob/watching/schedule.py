"""When a run is judged anew."""

from plumbob.types import Log

GROWTH = 1.5  # a run is judged where it has grown by so much,
FREE = 5  # the first times whatever that costs: to step 100 by default,
SHARE = 0.01  # and then where it takes no more than this share of the time between
WEIGHED = 4  # parameters are weighed where a run has grown by so much
TRIPS = 3  # judgements between two of these, of logs that were taken early


class Schedule:
    """Says at which logs a run is judged, and its parameters are weighed.

    A run of quick steps is over before anyone reads what is found on the way, a long
    one grows by half once in hours: a judgement's price in time decides between.
    """

    def __init__(self) -> None:
        self.count = self.next = self.next_weighed = 0
        self.trips = TRIPS
        self.resting_until = 0.0

    def due(self, log: Log) -> bool:
        """Return whether to judge now."""
        ready = self.count < FREE or log.seconds >= self.resting_until
        if log.step >= self.next and ready:
            self.next = max(log.step + 1, int((log.step + 1) * GROWTH))
            self.count += 1
            self.trips = TRIPS
            return True
        if log.why in {"loss", "gradient"} and self.trips:
            self.trips -= 1
            return True
        return False

    def took(self, log: Log, seconds: float) -> None:
        """Note what a judgement cost."""
        self.resting_until = log.seconds + seconds / SHARE

    def weighs(self, step: int) -> bool:
        """Return whether to weigh the parameters at this judgement."""
        if step < self.next_weighed:
            return False
        self.next_weighed = (step + 1) * WEIGHED
        return True
