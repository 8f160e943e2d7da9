"""Tokens: where they are read, how the environment is kept free of them, how they stay hidden."""
