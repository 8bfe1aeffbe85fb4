"""The names of all Redis keys.

All names begin with the ``QUEUE_PREFIX``, which is ``mw`` by default. arq's own keys begin with ``arq:`` and then the
prefix. A job that comes from arq's own client may have any id, so its two keys ``arq:job:ID`` and ``arq:result:ID`` do
not contain the prefix.

If the queue has P partitions, ``{p}`` is 0 to P - 1 for their home streams, and P to 2 P - 1 for their overflow streams
(`memory_worker.wire.overflow`). Keys of users are under the number of their home stream.

    mw:meta                     hash    the number of partitions, and the limits that producers must keep
    mw:since                    hash    times (unix ms) before which receipts are unknown: ``epoch`` for the whole
                                        queue, and one for each partition of which less is known
    mw:pushed:{token}           string  the receipts of one push, so that no late copy of it is stored; expires
    mw:backlog                  hash    jobs, bytes, dead and dead_bytes: totals over all partitions
    mw:collections              hash    the collections of this deployment, each with its origin
    mw:orphaned                 hash    drain jobs in progress without a lease, each with the time at which it was found
    mw:canary                   string  written every few seconds to test whether Redis accepts writes; expires
    mw:processes                zset    worker processes, each with the time from which it counts as dead (unix ms)
    mw:process:{id}             string  the role of a worker process; expires once the process has died
    mw:process:{id}:report      string  what a worker process has done, as MessagePack; expires
    mw:leader                   string  the token of the replica that collects the queue stats; expires
    mw:stats                    string  the latest queue stats (JSON); expires
    mw:stream:{p}               stream  the entries of a partition: v (contract version), j (job), t (trace context)
    mw:overflow:{p}             hash    users whose jobs go to the overflow stream of the partition, each with the id of
                                        its last entry in the home stream
    mw:overflow:{p}:pushed      hash    jobs that each user has pushed lately while the home stream was long; expires
    mw:lease:{p}                string  the token of the drain that holds the partition; expires
    mw:applied:{p}              stream  one entry; its id is that of the last entry that left the stream
    mw:dead:{p}                 stream  the dead letters of a partition, with the ids of their entries
    mw:removed:{p}              zset    dead letters that were dropped or replayed, each with the id of its replay, and
                                        entries that were discarded
    mw:outcomes                 stream  the outcomes of jobs, the last ``OUTCOMES_MAX`` of them
    mw:guarded:{p}              set     replay guard: users who have dead letters
    mw:guarded:{p}:{user}       hash    replay guard: the user's dead letters by position
    mw:guarded:{p}:{user}:touched  hash  replay guard: their points, each with the last position that touched it
    mw:paused                   hash    exists while the queue is paused: since (unix ms), by, reason
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
    mw:search:calls             list    read jobs of clients that no worker has taken: push time, id, job; expires
    mw:admin:calls              list    the same for reads of all users; expires
    mw:search:taker             string  exists while a worker takes jobs from the list of calls; expires
    mw:admin:taker              string  the same for reads of all users; expires
    mw:reply:{job}              list    the reply to one read job, or an empty string if its caller gave up; expires
    mw:reading                  string  exists while reads of users are answered; expires
    mw:replies                  zset    large replies not known to be taken, as size:key by expiry time; expires
    mw:replies:bytes            string  the sum of their sizes; expires
    arq:job:mw:drain:{p}        string  the drain job of a partition; expires
    arq:in-progress:mw:...      string  arq's mark of a job in progress; expires
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
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
    def paused(self) -> str:
        """The pause of the queue."""
        return f"{self.prefix}:paused"

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

    def process_report(self, process_id: str) -> str:
        """Return the key of the latest report of a worker process."""
        return f"{self.process_prefix}{process_id}:report"

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
    def admin_calls(self) -> str:
        """The list of calls of reads of all users."""
        return f"{self.admin_queue}:calls"

    @property
    def admin_taker(self) -> str:
        """The key that exists while a worker takes calls of reads of all users from their list."""
        return f"{self.admin_queue}:taker"

    @property
    def drain_wakeup(self) -> str:
        """The wakeup list of ingest workers."""
        return f"{self.drain_queue}:wakeup"

    @property
    def search_wakeup(self) -> str:
        """The wakeup list of search workers."""
        return f"{self.search_queue}:wakeup"

    @property
    def search_calls(self) -> str:
        """The list of calls of read jobs that name their user."""
        return f"{self.search_queue}:calls"

    @property
    def search_taker(self) -> str:
        """The key that exists while a worker takes calls from their list."""
        return f"{self.search_queue}:taker"

    @property
    def stream_prefix(self) -> str:
        """The beginning of the keys of streams."""
        return f"{self.prefix}:stream:"

    def stream(self, partition: int) -> str:
        """Return the key of a partition's entries."""
        return f"{self.stream_prefix}{partition}"

    def overflow_users(self, partition: int) -> str:
        """Return the key of the users whose jobs go to the overflow stream. The script of pushes derives it."""
        return f"{self.prefix}:overflow:{partition}"

    def overflow_counts(self, partition: int) -> str:
        """Return the key of what users have pushed while the home stream was long. The script of pushes derives it."""
        return f"{self.overflow_users(partition)}:pushed"

    @property
    def lease_prefix(self) -> str:
        """The beginning of the keys of leases."""
        return f"{self.prefix}:lease:"

    def lease(self, partition: int) -> str:
        """Return the key of a partition's lease."""
        return f"{self.lease_prefix}{partition}"

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

    @property
    def guarded_prefix(self) -> str:
        """The beginning of the keys of users who have dead letters."""
        return f"{self.prefix}:guarded:"

    def guarded(self, partition: int) -> str:
        """Return the key of the users who have dead letters. Scripts derive each user's keys from it."""
        return f"{self.guarded_prefix}{partition}"

    def guarded_dead_letters(self, partition: int, user_id: int | str) -> str:
        """Return the key of a user's dead letters, by position."""
        return f"{self.guarded(partition)}:{user_id}"

    def guarded_points(self, partition: int, user_id: int | str) -> str:
        """Return the key of the points of a user's dead letters."""
        return f"{self.guarded_dead_letters(partition, user_id)}:touched"

    @property
    def attempts_prefix(self) -> str:
        """The beginning of the keys of batches that are being tried."""
        return f"{self.prefix}:attempts:"

    def attempts(self, partition: int) -> str:
        """Return the key of the batch that is being tried."""
        return f"{self.attempts_prefix}{partition}"

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
    def reading(self) -> str:
        """The key that exists while reads of users are answered."""
        return f"{self.prefix}:reading"

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
    """The keys of waiting read jobs. They wait in arq's queue, or in the list of calls.

    ``wakeup`` is the list that wakes workers for jobs in arq's queue ``name``. ``calls`` is the list of calls, and
    ``taker`` exists while a worker takes jobs from it.
    """

    name: str
    wakeup: str
    calls: str
    taker: str


@cache
def user_reads(keys: Keys) -> ReadQueue:
    """Return the queue of reads that name their user."""
    return ReadQueue(keys.search_queue, keys.search_wakeup, keys.search_calls, keys.search_taker)


@cache
def admin_reads(keys: Keys) -> ReadQueue:
    """Return the queue of reads of all users."""
    return ReadQueue(keys.admin_queue, keys.admin_wakeup, keys.admin_calls, keys.admin_taker)
