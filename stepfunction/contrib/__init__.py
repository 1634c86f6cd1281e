"""Contrib: what makes the library at home in a framework; one package for each.

It stands on the front door as a user's code does. What comes in is the framework's own
settings and signals, what goes out are workflows that run right there.
"""
