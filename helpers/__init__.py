"""Loading, drawing and command-line plumbing shared by the runners; nobody edits these for the assignment."""
