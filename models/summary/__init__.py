"""What a recognizer is made of and costs: `python -m models.summary`."""
