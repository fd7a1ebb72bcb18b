"""From the solved package to a handout, and from a zip to points and to the name of the mistake.

`drivers` runs beside a student's code and knows no answers; `cases` holds inputs and answers; `judge`
compares; `mistakes` (never handed out) holds the wrong implementations that the judge can name.
"""
