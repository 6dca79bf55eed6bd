"""The worker: one process a machine that starts and ends containers.

``runner.py`` acquires what a container needs in order, and releases it in reverse; each resource has a file.
"""
