"""Images: layers that are directories, told apart by their content, and written out for other tools."""
