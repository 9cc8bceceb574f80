"""Commands for definitions and step types: definitions, steps, deploy.

`photojobs definitions` is in `known_definitions`, `new_definition` and `definition_graph`.
"""
