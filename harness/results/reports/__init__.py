"""Reports: every one a function of the result alone, so that it can be drawn again where MLX is absent."""
