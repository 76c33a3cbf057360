"""What a person types: the command line and the questions about the past."""
