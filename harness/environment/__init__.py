"""The machine: versions and device, releases known to be bad, whether this build of MLX can be believed."""
