-- Keys that senders chose for what they say, so that a repetition says it once; kept for a day.
CREATE TABLE key (
    origin      BLOB PRIMARY KEY NOT NULL,
    message     BIGINT NOT NULL,
    received_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_received ON key (received_ms);

DROP TRIGGER spool_message;
DROP TRIGGER spool_devices;
DROP TRIGGER spool_nobody;
DROP TRIGGER spool_marks;
DROP VIEW spool;
CREATE VIEW spool AS
SELECT id, sender, recipient, account, received_ms, content_type, headers, body, origin,
       false AS keyed, conversation, seq, epoch, author, kind, detail,
       '[]' AS devices, '[]' AS accounts, NULL AS marks
FROM message;

-- A log has no gaps: what follows an event that could not be stored is not stored either.
CREATE TRIGGER spool_message INSTEAD OF INSERT ON spool BEGIN
    SELECT RAISE(ABORT, 'a gap in the log of a conversation')
    WHERE NEW.seq > 1 AND NOT EXISTS
        (SELECT 1 FROM message WHERE conversation = NEW.conversation AND seq = NEW.seq - 1);
    INSERT INTO message
        (id, sender, recipient, account, received_ms, content_type, headers, body, origin,
         conversation, seq, epoch, author, kind, detail)
    VALUES (NEW.id, NEW.sender, NEW.recipient, NEW.account, NEW.received_ms, NEW.content_type,
            NEW.headers, NEW.body, NEW.origin,
            NEW.conversation, NEW.seq, NEW.epoch, NEW.author, NEW.kind, NEW.detail);
END;

CREATE TRIGGER spool_key INSTEAD OF INSERT ON spool WHEN NEW.keyed BEGIN
    INSERT INTO key (origin, message, received_ms) VALUES (NEW.origin, NEW.id, NEW.received_ms)
    ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER spool_devices INSTEAD OF INSERT ON spool WHEN NEW.devices <> '[]' BEGIN
    INSERT INTO delivery (device, message)
    SELECT value, NEW.id FROM json_each(NEW.devices) WHERE true ON CONFLICT DO NOTHING;
END;

-- Accounts of which the server knew no device: those that came a moment ago get it, or the
-- account waits for its first.
CREATE TRIGGER spool_nobody INSTEAD OF INSERT ON spool WHEN NEW.accounts <> '[]' BEGIN
    INSERT INTO delivery (device, message)
    SELECT id, NEW.id FROM device
    WHERE account IN (SELECT value FROM json_each(NEW.accounts)) ON CONFLICT DO NOTHING;
    INSERT INTO waiting (account, message)
    SELECT value, NEW.id FROM json_each(NEW.accounts)
    WHERE NOT EXISTS (SELECT 1 FROM device WHERE account = value) ON CONFLICT DO NOTHING;
END;

CREATE TRIGGER spool_marks INSTEAD OF INSERT ON spool WHEN NEW.marks IS NOT NULL BEGIN
    DELETE FROM delivery WHERE (device, message) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(NEW.marks));
END;
