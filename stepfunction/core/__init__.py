"""The engine: everything that a workflow needs to run, and nothing else."""
