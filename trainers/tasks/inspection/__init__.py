"""What a report shows of a classifier's predictions, as plain data that it draws."""
