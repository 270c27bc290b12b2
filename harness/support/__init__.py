"""What every layer may use and none is about: files, progress, configuration, a user's own code."""
