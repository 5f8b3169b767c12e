-- Keys that senders chose for what they say, so that a repetition says it once; kept for a day.
CREATE TABLE key (
    origin      BLOB PRIMARY KEY NOT NULL,
    message     BIGINT NOT NULL,
    received_ms BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_received ON key (received_ms);

-- A group of messages is one statement: a row each, and in the first one, as JSON, all else that is
-- committed with them.
DROP VIEW spool;
CREATE VIEW spool AS
SELECT id, sender, recipient, account, received_ms, content_type, headers, body, origin,
       conversation, seq, epoch, author, kind, detail,
       NULL AS conversations, NULL AS members, NULL AS keys, NULL AS deliveries, NULL AS accounts,
       NULL AS marks
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

CREATE TRIGGER spool_lists INSTEAD OF INSERT ON spool WHEN NEW.deliveries IS NOT NULL BEGIN
    INSERT INTO conversation
        (id, address, kind, subject, avatar, epoch, created_ms, pair_a, pair_b, grown)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9
    FROM json_each(NEW.conversations) WHERE true ON CONFLICT (id) DO UPDATE SET
        subject = excluded.subject, avatar = excluded.avatar, epoch = excluded.epoch,
        pair_a = excluded.pair_a, pair_b = excluded.pair_b, grown = excluded.grown;
    INSERT INTO member (conversation, address, joined, horizon, until, role)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(NEW.members) WHERE true ON CONFLICT (conversation, address, joined) DO UPDATE SET
        until = excluded.until, role = excluded.role;
    INSERT INTO key (origin, message, received_ms)
    SELECT unhex(value ->> 0), value ->> 1, value ->> 2
    FROM json_each(NEW.keys) WHERE true ON CONFLICT DO NOTHING;
    INSERT INTO delivery (device, message)
    SELECT value ->> 0, value ->> 1
    FROM json_each(NEW.deliveries) WHERE true ON CONFLICT DO NOTHING;
    -- Accounts of which the server knew no device: those that came a moment ago get it …
    INSERT INTO delivery (device, message)
    SELECT device.id, value ->> 1
    FROM json_each(NEW.accounts) CROSS JOIN device ON device.account = value ->> 0
    WHERE true ON CONFLICT DO NOTHING;
    -- … or the account waits for its first.
    INSERT INTO waiting (account, message)
    SELECT value ->> 0, value ->> 1 FROM json_each(NEW.accounts)
    WHERE NOT EXISTS (SELECT 1 FROM device WHERE account = value ->> 0) ON CONFLICT DO NOTHING;
    DELETE FROM delivery WHERE (device, message) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(NEW.marks));
END;
