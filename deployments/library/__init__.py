"""What an operator does with a library.

`library_survey` finds out how folders fit the layout, `library_setup` writes settings and a database, `new_project`
adds an empty project, and `accepted_originals` accepts corrupt originals.
"""
