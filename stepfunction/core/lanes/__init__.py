"""Lanes: worker processes that can be lost one at a time.

Calls come in through an executor, each to a process of its own. Their results go out,
or the death of the process, by name; killing one takes no other with it.
"""
