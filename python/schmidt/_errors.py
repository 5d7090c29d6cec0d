"""Exceptions that Python has no name for."""


class FormatError(ValueError):
    """A file does not hold what its format asks for: truncated, inconsistent, hostile, or of a
    kind that is not supported."""

    path: str  #: of the file or folder
    place: str  #: in it: a tensor, a key; may be empty
    reason: str

    def __init__(self, message: str, path: str, place: str, reason: str) -> None:
        super().__init__(message)
        self.path, self.place, self.reason = path, place, reason

    def __reduce__(self) -> tuple[type["FormatError"], tuple[str, str, str, str]]:
        return type(self), (str(self), self.path, self.place, self.reason)
