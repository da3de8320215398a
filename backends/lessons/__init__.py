"""The model in each framework, in plain files that import that framework and NumPy alone: copy one and train."""
