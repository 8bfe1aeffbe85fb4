"""Every key this project keeps in Redis, in one place.

All begin with ``QUEUE_PREFIX`` (``mw``); those that arq reads must begin with ``arq:`` and carry the prefix behind it.

    mw:meta                     hash    partitions (fixed at first use), limits that producers must keep
    mw:since                    hash    from when on receipts are known (unix ms): epoch, of the whole queue, and by
                                        partition, where its stream was made later
    mw:pushed:{token}           string  the ids of the entries of one push, for copies of it that come late; expires
    mw:backlog                  hash    jobs and bytes that wait in all streams together
    mw:collections              hash    the collections of the deployment: made by a worker, or adopted
    mw:suspects                 hash    arq's claims that were seen without a lease, and since when
    mw:canary                   string  written now and then, to see whether Redis takes writes; expires
    mw:processes                zset    worker processes that live, by when they are forgotten (unix ms)
    mw:process:{id}             string  the role of a worker process that lives; expires
    mw:surveyor                 string  the token of the replica that looks at the whole queue; expires
    mw:survey                   string  what it saw last, for the others (JSON); expires
    mw:stream:{p}               stream  the entries of a partition: v (contract version), j (the job)
    mw:lease:{p}                string  the token of the drain that holds the partition; expires
    mw:applied:{p}              stream  one entry, whose id is the last entry that left the partition
    mw:dead:{p}                 stream  dead letters under the ids of their entries
    mw:guarded:{p}              set     the users who have dead letters that may be replayed
    mw:guarded:{p}:{user}       hash    their dead letters, by the position at which each was first pushed
    mw:guarded:{p}:{user}:touched  hash  the points of these, each with the last position that touched it
    mw:attempts:{p}             hash    what a drain is trying, and which processes have tried it
    mw:drain, mw:search         zset    arq's queues: job ids by the time they are due
    mw:drain:bell, mw:search:bell  list   wakes a worker that waits at one of them
    mw:reply:{job}              list    the reply to one read job; expires
    mw:replies                  zset    large replies, as size:key, by when they expire; some may be taken; expires
    mw:replies:bytes            string  the sum of their sizes; expires
    arq:job:mw:drain:{p}        string  arq's job: the doorbell of a partition has been rung
    arq:in-progress:mw:...      string  arq's mark of a running job; expires
"""

from __future__ import annotations

from dataclasses import dataclass

from arq.constants import in_progress_key_prefix, job_key_prefix


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under one prefix."""

    prefix: str = "mw"

    @property
    def meta(self) -> str:
        """What producers must know."""
        return f"{self.prefix}:meta"

    @property
    def since(self) -> str:
        """Since when receipts mean something."""
        return f"{self.prefix}:since"

    def pushed(self, token: str) -> str:
        """Return the key of what one push has stored."""
        return f"{self.prefix}:pushed:{token}"

    @property
    def backlog(self) -> str:
        """Jobs and bytes that wait."""
        return f"{self.prefix}:backlog"

    @property
    def collections(self) -> str:
        """The registry of collections."""
        return f"{self.prefix}:collections"

    @property
    def suspects(self) -> str:
        """Claims of arq's that were seen without a lease."""
        return f"{self.prefix}:suspects"

    @property
    def canary(self) -> str:
        """What is written to see whether Redis takes writes."""
        return f"{self.prefix}:canary"

    @property
    def processes(self) -> str:
        """Which worker processes live."""
        return f"{self.prefix}:processes"

    @property
    def process_prefix(self) -> str:
        """How the keys of living processes begin."""
        return f"{self.prefix}:process:"

    def process(self, process_id: str) -> str:
        """Return the key that is there for as long as a worker process lives."""
        return f"{self.process_prefix}{process_id}"

    @property
    def surveyor(self) -> str:
        """Who looks at the whole queue."""
        return f"{self.prefix}:surveyor"

    @property
    def survey(self) -> str:
        """What the surveyor saw last."""
        return f"{self.prefix}:survey"

    @property
    def drain_queue(self) -> str:
        """The arq queue of the ingest role."""
        return f"{self.prefix}:drain"

    @property
    def search_queue(self) -> str:
        """The arq queue of the search role."""
        return f"{self.prefix}:search"

    @property
    def drain_bell(self) -> str:
        """What an ingest worker waits at."""
        return f"{self.drain_queue}:bell"

    @property
    def search_bell(self) -> str:
        """What a search worker waits at."""
        return f"{self.search_queue}:bell"

    @property
    def stream_prefix(self) -> str:
        """How the keys of entries begin."""
        return f"{self.prefix}:stream:"

    def stream(self, partition: int) -> str:
        """Return the key of a partition's entries."""
        return f"{self.stream_prefix}{partition}"

    def lease(self, partition: int) -> str:
        """Return the key of a partition's lease."""
        return f"{self.prefix}:lease:{partition}"

    def applied(self, partition: int) -> str:
        """Return the key of a partition's mark of what has been applied."""
        return f"{self.prefix}:applied:{partition}"

    def dead(self, partition: int) -> str:
        """Return the key of a partition's dead letters."""
        return f"{self.prefix}:dead:{partition}"

    def guarded(self, partition: int) -> str:
        """Return the key of the users who have dead letters; keys of each user begin with it."""
        return f"{self.prefix}:guarded:{partition}"

    def guarded_letters(self, partition: int, user_id: int | str) -> str:
        """Return the key of a user's dead letters, by position."""
        return f"{self.guarded(partition)}:{user_id}"

    def guarded_points(self, partition: int, user_id: int | str) -> str:
        """Return the key of what has touched the points of a user's dead letters."""
        return f"{self.guarded_letters(partition, user_id)}:touched"

    def attempts(self, partition: int) -> str:
        """Return the key of the note of what a drain is trying, and of who has tried it."""
        return f"{self.prefix}:attempts:{partition}"

    def reply(self, job_id: str) -> str:
        """Return the key of the list that takes the reply to a read job."""
        return f"{self.prefix}:reply:{job_id}"

    @property
    def replies(self) -> str:
        """Large replies that may not have been taken yet."""
        return f"{self.prefix}:replies"

    @property
    def replies_bytes(self) -> str:
        """What they have together."""
        return f"{self.replies}:bytes"

    @property
    def drain_job_id_prefix(self) -> str:
        """How the arq job ids of drains begin."""
        return f"{self.prefix}:drain:"

    def drain_job_id(self, partition: int) -> str:
        """Return the arq job id of a partition's drain: one at a time."""
        return f"{self.drain_job_id_prefix}{partition}"

    def arq_job(self, job_id: str) -> str:
        """Return arq's key of a job's definition."""
        return f"{job_key_prefix}{job_id}"

    def arq_in_progress(self, job_id: str) -> str:
        """Return arq's key of a job that runs."""
        return f"{in_progress_key_prefix}{job_id}"
