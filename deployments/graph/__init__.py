"""Pictures of a definition, and of a task: in the terminal, as Mermaid text, as SVG."""
