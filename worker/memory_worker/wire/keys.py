"""The names of all Redis keys.

All names begin with the ``QUEUE_PREFIX``, which is ``mw`` by default. arq's own keys begin with ``arq:`` and then the
prefix. A job that comes from arq's own client may have any id, so its two keys ``arq:job:ID`` and ``arq:result:ID`` do
not contain the prefix.

    mw:meta                     hash    the number of partitions, and the limits that producers must keep
    mw:since                    hash    times (unix ms) before which receipts are unknown: ``epoch`` for the whole
                                        queue, and one for each partition of which less is known
    mw:pushed:{token}           string  the entry ids of one push, so that no late copy of it is stored; expires
    mw:backlog                  hash    jobs, bytes, dead and dead_bytes: totals over all partitions
    mw:collections              hash    the collections of this deployment, each with its origin
    mw:orphaned                 hash    drain jobs in progress without a lease, each with the time at which it was found
    mw:canary                   string  written every few seconds to test whether Redis accepts writes; expires
    mw:processes                zset    worker processes, each with the time from which it counts as dead (unix ms)
    mw:process:{id}             string  the role of a worker process; expires once the process has died
    mw:leader                   string  the token of the replica that collects the queue stats; expires
    mw:stats                    string  the latest queue stats (JSON); expires
    mw:stream:{p}               stream  the entries of a partition: v (contract version), j (the job)
    mw:lease:{p}                string  the token of the drain that holds the partition; expires
    mw:applied:{p}              stream  one entry; its id is that of the last entry that left the stream
    mw:dead:{p}                 stream  the dead letters of a partition, with the ids of their entries
    mw:removed:{p}              zset    dead letters that were dropped or replayed, each with the id of its replay
    mw:outcomes                 stream  the outcomes of jobs, the last ``OUTCOMES_MAX`` of them
    mw:guarded:{p}              set     replay guard: users who have dead letters
    mw:guarded:{p}:{user}       hash    replay guard: the user's dead letters by position
    mw:guarded:{p}:{user}:touched  hash  replay guard: their points, each with the last position that touched it
    mw:held                     hash    partitions whose head a worker cannot apply: entry id, and what it needs
    mw:watched                  string  exists while a command watches the queue; expires
    mw:watched:{p}              stream  the last entries that left a partition meanwhile; expires
    mw:attempts:{p}             hash    the batch that is being tried, and the processes that have tried it
    mw:drain, mw:search         zset    arq's queues: job ids by due time
    mw:writes                   zset    arq's queue of writes by its own client: job ids by due time
    mw:admin                    zset    arq's queue of reads of all users: job ids by due time
    mw:drain:wakeup             list    idle ingest workers block on it
    mw:search:wakeup            list    idle search workers block on it
    mw:admin:wakeup             list    idle search workers block on it, too
    mw:reply:{job}              list    the reply to one read job; expires
    mw:replies                  zset    large replies not known to be taken, as size:key by expiry time; expires
    mw:replies:bytes            string  the sum of their sizes; expires
    arq:job:mw:drain:{p}        string  the drain job of a partition; expires
    arq:in-progress:mw:...      string  arq's mark of a job in progress; expires
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under one prefix."""

    prefix: str = "mw"

    @property
    def meta(self) -> str:
        """The number of partitions, and the limits of producers."""
        return f"{self.prefix}:meta"

    @property
    def since(self) -> str:
        """The times from which receipts are known."""
        return f"{self.prefix}:since"

    def pushed(self, token: str) -> str:
        """Return the key of the entry ids of one push."""
        return f"{self.prefix}:pushed:{token}"

    @property
    def backlog(self) -> str:
        """The totals of jobs and bytes."""
        return f"{self.prefix}:backlog"

    @property
    def collections(self) -> str:
        """The registry of collections."""
        return f"{self.prefix}:collections"

    @property
    def held(self) -> str:
        """The partitions whose head a worker cannot apply."""
        return f"{self.prefix}:held"

    @property
    def orphaned(self) -> str:
        """Drain jobs that are in progress without a lease."""
        return f"{self.prefix}:orphaned"

    @property
    def canary(self) -> str:
        """The key that is written to test whether Redis accepts writes."""
        return f"{self.prefix}:canary"

    @property
    def processes(self) -> str:
        """The worker processes."""
        return f"{self.prefix}:processes"

    @property
    def process_prefix(self) -> str:
        """The beginning of the keys of processes."""
        return f"{self.prefix}:process:"

    def process(self, process_id: str) -> str:
        """Return the key that exists while a worker process is alive."""
        return f"{self.process_prefix}{process_id}"

    @property
    def leader(self) -> str:
        """The token of the replica that collects the queue stats."""
        return f"{self.prefix}:leader"

    @property
    def stats(self) -> str:
        """The latest queue stats."""
        return f"{self.prefix}:stats"

    @property
    def drain_queue(self) -> str:
        """The arq queue of the ingest role."""
        return f"{self.prefix}:drain"

    @property
    def search_queue(self) -> str:
        """The arq queue of the search role."""
        return f"{self.prefix}:search"

    @property
    def admin_queue(self) -> str:
        """The arq queue of reads of all users."""
        return f"{self.prefix}:admin"

    @property
    def writes_queue(self) -> str:
        """The arq queue of writes by arq's own client."""
        return f"{self.prefix}:writes"

    @property
    def admin_wakeup(self) -> str:
        """The wakeup list for reads of all users."""
        return f"{self.admin_queue}:wakeup"

    @property
    def drain_wakeup(self) -> str:
        """The wakeup list of ingest workers."""
        return f"{self.drain_queue}:wakeup"

    @property
    def search_wakeup(self) -> str:
        """The wakeup list of search workers."""
        return f"{self.search_queue}:wakeup"

    @property
    def stream_prefix(self) -> str:
        """The beginning of the keys of streams."""
        return f"{self.prefix}:stream:"

    def stream(self, partition: int) -> str:
        """Return the key of a partition's entries."""
        return f"{self.stream_prefix}{partition}"

    def lease(self, partition: int) -> str:
        """Return the key of a partition's lease."""
        return f"{self.prefix}:lease:{partition}"

    def applied(self, partition: int) -> str:
        """Return the key that shows how far a partition has been applied."""
        return f"{self.prefix}:applied:{partition}"

    def dead(self, partition: int) -> str:
        """Return the key of a partition's dead letters."""
        return f"{self.prefix}:dead:{partition}"

    def removed(self, partition: int) -> str:
        """Return the key of a partition's dead letters that were dropped or replayed."""
        return f"{self.prefix}:removed:{partition}"

    @property
    def outcomes(self) -> str:
        """The outcomes of jobs."""
        return f"{self.prefix}:outcomes"

    def guarded(self, partition: int) -> str:
        """Return the key of the users who have dead letters. Scripts derive each user's keys from it."""
        return f"{self.prefix}:guarded:{partition}"

    def guarded_dead_letters(self, partition: int, user_id: int | str) -> str:
        """Return the key of a user's dead letters, by position."""
        return f"{self.guarded(partition)}:{user_id}"

    def guarded_points(self, partition: int, user_id: int | str) -> str:
        """Return the key of the points of a user's dead letters."""
        return f"{self.guarded_dead_letters(partition, user_id)}:touched"

    def attempts(self, partition: int) -> str:
        """Return the key of the batch that is being tried."""
        return f"{self.prefix}:attempts:{partition}"

    @property
    def watched(self) -> str:
        """The key that exists while a command watches the queue."""
        return f"{self.prefix}:watched"

    def watched_entries(self, partition: int) -> str:
        """Return the key of the entries that left a partition while the queue was watched."""
        return f"{self.watched}:{partition}"

    def reply(self, job_id: str) -> str:
        """Return the key of the list for the reply to a read job."""
        return f"{self.prefix}:reply:{job_id}"

    @property
    def replies(self) -> str:
        """The large replies that are not known to be taken."""
        return f"{self.prefix}:replies"

    @property
    def replies_bytes(self) -> str:
        """The sum of the sizes of large replies."""
        return f"{self.replies}:bytes"

    @property
    def drain_job_id_prefix(self) -> str:
        """The beginning of the ids of drain jobs."""
        return f"{self.prefix}:drain:"

    def drain_job_id(self, partition: int) -> str:
        """Return the arq job id of a partition's drain job."""
        return f"{self.drain_job_id_prefix}{partition}"

    def arq_job(self, job_id: str) -> str:
        """Return arq's key for a job."""
        return f"arq:job:{job_id}"

    def arq_in_progress(self, job_id: str) -> str:
        """Return arq's key for a job in progress."""
        return f"arq:in-progress:{job_id}"


class ReadQueue(NamedTuple):
    """An arq queue of read jobs, and the list that wakes its workers."""

    name: str
    wakeup: str


def user_reads(keys: Keys) -> ReadQueue:
    """Return the queue of reads that name their user."""
    return ReadQueue(keys.search_queue, keys.search_wakeup)


def admin_reads(keys: Keys) -> ReadQueue:
    """Return the queue of reads of all users."""
    return ReadQueue(keys.admin_queue, keys.admin_wakeup)
