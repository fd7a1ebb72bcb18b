"""Makes the handout and the autograder, grades submissions and names their mistakes.

`drivers` runs beside a student's code and knows no answers; `cases` holds inputs and answers; `judge`
compares; `mistakes` (never handed out) holds the wrong implementations that the judge can name.
"""
