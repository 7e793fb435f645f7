"""What an unknown word may mean: the field's words, other programs' and the book's, and the nearest key.

In: a word that is no key, component or command. Out: the end of the message about it. Read guess.py first.
"""
