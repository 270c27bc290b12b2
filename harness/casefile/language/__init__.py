"""What a case may say: the pydantic models, their building blocks, and the rules between fields."""
