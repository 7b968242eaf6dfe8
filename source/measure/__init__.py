"""Runs that take too long for a lesson: a script each, whose results are kept in gptlib/measured/."""
