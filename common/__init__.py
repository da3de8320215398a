"""Data and formats that all backends share. No framework is imported here."""
