"""Requests from browsers and other programs, answered by functions and classes. Loaded once an app has some that do."""
