"""What the commands of the command line do. No torch or napari before it is needed."""
