"""Rosetta's own backends, each compared with the reference:
read it in one sitting, beginning with cases.py."""
