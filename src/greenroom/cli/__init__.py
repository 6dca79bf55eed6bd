"""The ``greenroom`` command: one file a command."""
