"""The record of every run: rows in a database, pictures and masks in a content-addressed store.

places.py   where the database and the store live, from arguments, environment and defaults
tables.py   the rows
schema.py   which tables a database has, and how it gets those of this version; migrations/ has the scripts
database.py connections and transactions: WAL, waiting for locks, schema version, one-line errors
patience.py how long a server that does not answer is waited for
store.py    pictures and masks under the digest of their pixels
lease.py    who holds a run, and is that process still alive
listing.py  runs at a glance: filtered, sorted, summed up
upkeep.py   what is lost, what nobody names any more, where a picture belongs
settings.py may this run be taken up again with these values
rows.py     rows that a commit needs, found or told missing
reading.py  from rows to records
holding.py  runs begun, taken up again, held by one process at a time
committing.py every step of both loops, each once
costs.py    every model call: tokens, seconds, money
artifacts.py files that were written for a person
experience.py what was tried against which flaw, what came of it, and what of that the next run is told
bank.py     the MemoryBank protocol over all of these
"""

from memory_bank.bank import SqlMemoryBank, open_memory_bank

__all__ = ["SqlMemoryBank", "open_memory_bank"]
