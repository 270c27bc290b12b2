"""What the engine did with the model: the question asked again, its metric, its patches, its recoveries."""
