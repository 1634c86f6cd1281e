"""Watching: who is told of an execution while it runs.

What has just happened comes in from the engine; events go out to listeners and to the
log. Nothing is made where nobody listens.
"""
