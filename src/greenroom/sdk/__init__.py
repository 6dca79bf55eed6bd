"""What a program uses: apps, functions, classes, calls. ``greenroom`` itself re-exports the public names."""
