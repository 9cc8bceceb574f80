"""Commands for definitions and step types: definitions, steps, deploy."""
