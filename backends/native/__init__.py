"""The frameworks' own files of weights: written by each framework,
read without trusting what is in them."""
