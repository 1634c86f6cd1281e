"""History: what happened in one run of a workflow.

The engine notes visits of steps here as they end. What people read comes out of it,
made when it is looked at: the execution, its records, its results.
"""
