-- Keys that senders chose for what they say, so that a repetition says it once; kept for a day.
CREATE TABLE key (
    origin      BLOB PRIMARY KEY NOT NULL,
    message     BIGINT NOT NULL,
    received_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_received ON key (received_ms);

-- The writer fills the tables itself: a view that spreads a row over them takes half as long again.
DROP VIEW spool;

-- A log has no gaps: what follows an event that could not be stored is not stored either.
CREATE TRIGGER message_gap BEFORE INSERT ON message
WHEN NEW.seq > 1 AND NOT EXISTS
    (SELECT 1 FROM message WHERE conversation = NEW.conversation AND seq = NEW.seq - 1)
BEGIN
    SELECT RAISE(ABORT, 'a gap in the log of a conversation');
END;
