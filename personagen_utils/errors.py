"""The one exception a user of the kit is meant to read."""


class KitError(Exception):
    """A mistake in the input or the surroundings, said in one line with the way out."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of printing the stack: one line is what helps here.
        return [f"{type(self).__name__}: {self}"]
