"""Transcript: an execution as JSON, and back.

An execution comes in, and data that JSON can hold goes out, with a mark for what it
cannot; read back, it is an execution to look at. Nothing that it names is called.
"""
