"""What outlives the server: deployed versions, calls, their inputs and outputs, in one SQLite file.

``file.py`` opens, checks and locks it, ``migrations.py`` has the tables, ``database.py`` the threads that write and
read. ``calls.py``, ``versions.py`` and ``schedules.py`` are plain functions over a connection, to be given to
``Database.write`` and ``Database.read``; ``payloads.py`` keeps large values apart from the rows that name them.
``backup.py`` copies the file while it is used, and puts a copy back.

An ephemeral server keeps nothing, and imports none of this.
"""
