"""A clock that stands still until it is set."""


class Clock:
    """Gives seconds since 1970."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now
