"""Which model is the champion: compared, promoted, rolled back."""
