"""What users write: the decorators, which only record; reading what they recorded; and the one driver of hooks."""
