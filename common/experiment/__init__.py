"""Running experiments: configuration, commands, run folders, seeds, devices, files, parallel jobs."""
