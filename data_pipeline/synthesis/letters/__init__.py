"""Boards of letters in noise: several letters, turned, enlarged and added onto one another; which of 26 are there is asked."""
