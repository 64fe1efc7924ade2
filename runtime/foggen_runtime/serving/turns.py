"""One engine for several threads: while a question waits for the cloud, the next one has it."""

import threading


class Turns:
    """Who may use the engine: one question at a time, in the order in which they came.

    Every question draws the next number and waits until it is called. A question that gave the
    engine away and comes back draws again: if its two numbers are consecutive, nobody had the
    engine in between, and the cache is as the question left it.
    """

    def __init__(self) -> None:
        self._called = threading.Condition()
        self._next = 0
        self._now = 0

    def take(self) -> int:
        """Wait for the engine, and return the turn's number: one more than the turn before."""
        with self._called:
            number = self._next
            self._next += 1
            self._called.wait_for(lambda: self._now == number)
        return number

    def give(self) -> None:
        """Call the next number; only the question that has the engine may."""
        with self._called:
            self._now += 1
            self._called.notify_all()
