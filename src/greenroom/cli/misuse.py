"""What the command line can be wrong about."""


class Misuse(Exception):
    """The command line is wrong: this text, and status 2."""
