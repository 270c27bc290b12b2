"""The trail of one forward pass: what every module was given and returned, in order of execution."""
