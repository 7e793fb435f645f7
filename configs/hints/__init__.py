"""Unknown words and their likely meanings: the field's words, those of other programs, those of the book.

In: a word that is no key, component or command. Out: the end of the message about it. Read guess.py first.
"""
