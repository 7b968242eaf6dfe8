"""The builder: texts in source/ become notebooks/, exercises/ and solutions/, one way and the same way every time.

project.py   the project's address and tag, and what is stamped from them
rooms.py     which files of the library a lesson stands on
compose.py   a text becomes a notebook: roles, blanks, cell ids, hashes
running.py   a notebook is executed and its outputs are made fit to be kept
making.py    build what changed; say what is stale
readme.py    the parts of README.md that are written from the above
"""
