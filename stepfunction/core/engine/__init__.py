"""Engine: how a graph runs.

A graph and an input come in; the loop performs step after step, has workers make the
calls, and notes what happened. An execution goes out, at its end.
"""
