"""Definition: what a workflow is; nothing here runs.

The arguments of a builder's methods come in; steps and the frozen graph of them go
out, or every reason why they are not sound.
"""
