"""Workflows as data that JSON can hold: ``StepFunction.to_dict()`` and back."""
