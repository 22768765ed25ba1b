"""Models that stay loaded in worker processes, used by any number of runs on any machine.

A call names its pictures by their digests in the shared store. Prefect's background tasks carry it to
whichever worker is free; what is asked and answered lies in the store, so that a worker that dies is noticed,
and its call goes to another.

- codec.py    records as JSON, their pictures as digests
- exchange.py the shared store: pictures, questions, claims and answers
- calls.py    one call: asked, taken, answered, and given to another worker if nobody answers
- tasks.py    the calls as Prefect background tasks
- tools.py    the tools of both loops, whose work is done by workers
- models.py   what a worker does with a call: the same tools that a run without workers has
- slots.py    one user at a time for a GPU that several processes share
"""
