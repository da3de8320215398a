"""The border between this process and a backend's: how one is started, called, heard and ended."""
