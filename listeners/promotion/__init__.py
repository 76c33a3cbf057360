"""Decide which model is the champion: compare models, promote a model, roll back to an earlier model."""
