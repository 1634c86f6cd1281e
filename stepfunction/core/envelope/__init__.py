"""Envelope: how values cross between processes.

A value, a call or an exception comes in on one side as it is, and goes out on the
other as nearly so as pickle allows; what cannot cross is refused with where it stands.
"""
