"""What is learned, one task a file; config files name them by class."""
