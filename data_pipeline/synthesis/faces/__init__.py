"""Small drawn faces with three correlated attributes: whether a mask is worn, gender, age."""
