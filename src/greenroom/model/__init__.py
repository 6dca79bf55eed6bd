"""What everything else is about: ids, specs, errors, settings and the two state tables. Standard library only."""
