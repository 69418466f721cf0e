"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """Bad input: one line that names the file, key or value and the way out.

    `main.py` and the tools print the line without a traceback and exit with code 2.
    """

    def __init__(self, message: str):
        # A loader worker re-raises with its whole traceback as the message; the last line is ours.
        super().__init__(message.strip().splitlines()[-1].removeprefix(f"{__name__}.{type(self).__name__}: "))


def shown(path: object) -> str:
    """A path or a name as one line can show it: what breaks a line, or is no character, stands as its number."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))


def brief(text: object, most: int = 300) -> str:
    """The same for what may be of any length: beyond `most` characters the middle is left out."""
    line = shown(text)
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


def reason(error: BaseException) -> str:
    """The first line of another library's message, or the exception's name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def pick(table, name: str, key: str):
    """Entry `name` of a dict; `key` is the config key to quote, with the choices, when the name is unknown."""
    if name not in table:
        raise UserError(f"{key} = {name!r} is unknown; choose one of: {', '.join(sorted(table))}")
    return table[name]
