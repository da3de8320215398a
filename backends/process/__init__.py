"""The border between this process and a backend's: how a backend's process is started, called, heard and ended."""
