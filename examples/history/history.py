"""Keeps what goes through the log of an SSE gateway in SQLite, and answers for what the log has no more.

Usage: history.py nats://nats:4222 archive.db

With NATS_CREDS=file as the user of a credentials file. The log is that of SSE_PREFIX (sse), questions come on
HISTORY_SUBJECT (history.get).
"""

import asyncio
import json
import os
import re
import sqlite3
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

PREFIX = os.environ.get("SSE_PREFIX", "sse")
SUBJECT = os.environ.get("HISTORY_SUBJECT", "history.get")
PAGE = 100  # events of one answer, at most
PAGE_BYTES = 512 * 1024  # of their data; NATS takes 1 MiB in a message
LATEST = 50  # events for a client that brings no id
CURSOR = re.compile(r"([0-9a-f]{8})-(\d+)(-end)?")
SCHEMA = """
    CREATE TABLE IF NOT EXISTS spans (epoch TEXT PRIMARY KEY, since INTEGER, upto INTEGER);
    CREATE TABLE IF NOT EXISTS events (epoch TEXT, sequence INTEGER, id TEXT, event TEXT, data TEXT,
                                       PRIMARY KEY (epoch, sequence));
    CREATE TABLE IF NOT EXISTS receivers (subject TEXT, epoch TEXT, sequence INTEGER,
                                          PRIMARY KEY (subject, epoch, sequence)) WITHOUT ROWID;
"""


class Unknown(Exception):
    """The archive can not say what came after an id: the client is told of a gap."""


class Archive:
    def __init__(self, file: str) -> None:
        self.db = sqlite3.connect(file)
        self.db.executescript(SCHEMA)

    def span(self, epoch: str) -> tuple[int, int]:
        """The archive has everything from the first to the second sequence."""
        found = self.db.execute("SELECT since, upto FROM spans WHERE epoch = ?", (epoch,)).fetchone()
        return found or (1, 0)

    def store(self, epoch: str, messages: list) -> None:
        """Takes messages that follow what is there; where they do not, the log had nothing in between to take."""
        with self.db:
            since, upto = self.span(epoch)
            for message in messages:
                sequence = message.metadata.sequence.stream
                since, upto = (since if sequence == upto + 1 else sequence), sequence
                self._event(epoch, sequence, message.subject, message.headers or {}, message.data)
            self.db.execute("INSERT OR REPLACE INTO spans VALUES (?, ?, ?)", (epoch, since, upto))

    def _event(self, epoch: str, sequence: int, subject: str, headers: dict, payload: bytes) -> None:
        try:
            data = payload.decode()
        except UnicodeDecodeError:
            return  # no event: the gateways refuse it, too
        if "Nats-Marker-Reason" in headers:
            return  # the server marks a deletion
        ended = "-end" if headers.get("Sse-Complete") == "true" else ""
        event = headers.get("Sse-Event") or headers.get("ce-type")
        row = (epoch, sequence, f"{epoch}-{sequence}{ended}", event, data)
        self.db.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", row)
        # A list of users or topics is as many subjects of one.
        for name in ("Users", "Topics"):
            if subject.endswith(f".{name.lower()}"):
                listed = [one.strip() for one in headers.get(f"Sse-{name}", "").split(",")]
                subjects = [f"{subject[:-1]}.{one}" for one in listed]
                break
        else:
            subjects = [subject]
        rows = [(one, epoch, sequence) for one in subjects]
        self.db.executemany("INSERT OR REPLACE INTO receivers VALUES (?, ?, ?)", rows)

    def answer(self, question: dict) -> dict:
        epoch, before = question["before"].split("-")
        since, upto = self.span(epoch)
        if upto + 1 < int(before):
            raise Unknown("the archive is behind")
        last = CURSOR.fullmatch(question["lastEventId"])
        if question["lastEventId"] == "":
            found = self._select(question, epoch, 0, int(before), "DESC", LATEST)[::-1]
            return {"events": page(found), "more": False}
        if last is None or last[1] != epoch or int(last[2]) + 1 < since:
            raise Unknown("the archive does not reach back to the id")
        found = self._select(question, epoch, int(last[2]), int(before), "ASC", PAGE + 1)
        events = page(found[:PAGE])
        return {"events": events, "more": len(events) < len(found)}

    def _select(self, question: dict, epoch: str, after: int, before: int, order: str, most: int) -> list:
        tenant = f"{PREFIX}.{question['tenant']}"
        subjects = [f"{tenant}.user.{question['user']}", f"{tenant}.all"]
        for topic in question["topics"]:
            subjects += self._topics(f"{tenant}.topic.", topic)
        marks = ", ".join("?" * len(subjects))
        query = f"""SELECT DISTINCT sequence, id, event, data FROM receivers JOIN events USING (epoch, sequence)
                    WHERE subject IN ({marks}) AND epoch = ? AND sequence > ? AND sequence < ?
                    ORDER BY sequence {order} LIMIT ?"""
        return self.db.execute(query, (*subjects, epoch, after, before, most)).fetchall()

    def _topics(self, family: str, pattern: str) -> list[str]:
        if not {"*", ">"} & set(pattern.split(".")):
            return [family + pattern]
        levels = {"*": r"[^.]+", ">": r".+"}
        form = re.compile(r"\.".join(levels.get(level, re.escape(level)) for level in pattern.split(".")))
        rows = self.db.execute("SELECT DISTINCT subject FROM receivers WHERE subject GLOB ? || '*'", (family,))
        return [subject for (subject,) in rows if form.fullmatch(subject[len(family) :])]


def page(found: list) -> list[dict]:
    events, size = [], 0
    for _, id, event, data in found:
        size += len(data.encode())
        if events and size > PAGE_BYTES:
            break
        events.append({"id": id, "event": event, "data": data})
    return events


async def follow(js, archive: Archive) -> None:
    """Takes the log into the archive, until the log is another one or something is missing."""
    stream = f"SSE_{PREFIX}"
    epoch = (await js.stream_info(stream)).config.metadata["epoch"]
    start = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=archive.span(epoch)[1] + 1,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=60,
    )
    reader = await js.pull_subscribe("", stream=stream, config=start)
    try:
        await take(js, reader, archive, stream, epoch)
    finally:
        await reader.unsubscribe()


async def take(js, reader, archive: Archive, stream: str, epoch: str) -> None:
    fresh = True
    while True:
        upto = archive.span(epoch)[1]
        try:
            messages = await reader.fetch(500, timeout=1)
        except nats.errors.TimeoutError:
            info = await js.stream_info(stream)
            if info.config.metadata["epoch"] != epoch or info.state.last_seq > upto:
                return
            continue
        sequences = [upto] + [message.metadata.sequence.stream for message in messages]
        steps = [later - earlier for earlier, later in zip(sequences, sequences[1:])]
        # What is missing in the middle may be lost on the way: read again from there, and what is missing at the
        # beginning of that is not in the log.
        whole = next((at for at, step in enumerate(steps) if step != 1 and not (fresh and at == 0)), len(steps))
        archive.store(epoch, messages[:whole])
        if whole < len(messages):
            return
        fresh = False


async def main(url: str, file: str) -> None:
    archive = Archive(file)
    client = await nats.connect(
        url,
        user_credentials=os.environ.get("NATS_CREDS"),
        inbox_prefix="_INBOX.history",
        max_reconnect_attempts=-1,
    )

    async def answer(message) -> None:
        try:
            reply = archive.answer(json.loads(message.data))
        except Unknown as unknown:
            reply = {"error": str(unknown)}
        await message.respond(json.dumps(reply).encode())

    await client.subscribe(SUBJECT, queue="history", cb=answer)
    print(f"Answers on {SUBJECT}.", flush=True)
    while True:
        try:
            await follow(client.jetstream(), archive)
        except (nats.errors.Error, KeyError, TypeError) as error:
            print(f"The log can not be read; trying again: {error!r}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
