"""Functions over results, where MLX may be absent: JSON, plots, shards, reports, comparison, replay."""
