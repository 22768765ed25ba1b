"""What `legion doctor` finds.

examining.py    machine, packages and profiles, and all findings as lines
weights.py      whether weights are here whole, and the command that gets them
services.py     Prefect's server, the database and the store: do they answer?
"""
