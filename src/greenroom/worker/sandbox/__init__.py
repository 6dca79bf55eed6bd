"""What a container's processes run in."""
