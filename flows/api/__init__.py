"""The API for programs: runs submitted, watched, cancelled and fetched over HTTP.

- settings.py   where the server listens, who may use it, and its limits
- guard.py      what is refused before any of our code reads it: no token, foreign pages, too many bytes
- bodies.py     what a program sends and gets, as the OpenAPI document shows it
- pictures.py   pictures that programs sent, under the digest of their bytes
- queue.py      accepted runs on disk, so that none is lost
- notices.py    what happened to each run, for those who listen
- runner.py     the thread that works the queue off, equal requests as one batch
- service.py    all of these together: what each route does
- app.py        the routes
- refusals.py   why a request is refused, with its status
"""
