"""The written part of the assignment, and what sets it as a PDF."""
