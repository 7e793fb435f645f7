"""Commands beyond train, val and test, one a file; each is imported when it is called."""
