"""`legion ui`: a Prefect server, the pictures over http, and forms from which runs are started and approved.

places.py        addresses, ports and what the other parts agree on
image_server.py  pictures, masks and reports of the memory bank over http
parameters.py    what the forms ask for, as pydantic models
deployments.py   the flows behind the forms
forms.py         the process that serves them
reviewing.py     a person asked about a round, by a form
cancelling.py    a run cancelled on Prefect's page
relaying.py      forms that run a command of the command line
board.py         artifacts and tags sent to Prefect's server beside the run
showing.py       names, tags and artifacts of a run in Prefect's pages
ui.py            all of it started together and ended together
"""
