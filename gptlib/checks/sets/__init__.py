"""One folder for each lesson's exercises, one file for each exercise: `attention.attend` is `attention/attend.py`."""
