-- Conversations and their log. An event is a row of `message`: what goes to phones and what the
-- log shows are one record, committed once.

CREATE TABLE conversation (
    id         INTEGER PRIMARY KEY,
    address    TEXT NOT NULL UNIQUE,
    kind       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    avatar     TEXT NOT NULL,
    epoch      BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- The two of a pair, the lesser first; NULL for a group.
    pair_a     TEXT,
    pair_b     TEXT,
    -- It is, or was, more than a pair: phones know its address.
    grown      BOOLEAN NOT NULL,
    UNIQUE (pair_a, pair_b)
);

-- A stay: what a member may see is from its horizon to the end, both included. Who comes again
-- has a row more.
CREATE TABLE member (
    conversation BIGINT NOT NULL,
    address      TEXT NOT NULL,
    joined       BIGINT NOT NULL,
    horizon      BIGINT NOT NULL,
    until        BIGINT,
    role         TEXT NOT NULL,
    PRIMARY KEY (conversation, address, joined)
) WITHOUT ROWID;
CREATE INDEX member_address ON member (address, conversation);

-- How far each member has got: watermarks of the sequence.
CREATE TABLE receipt (
    conversation BIGINT NOT NULL,
    address      TEXT NOT NULL,
    delivered    BIGINT NOT NULL,
    displayed    BIGINT NOT NULL,
    PRIMARY KEY (conversation, address)
) WITHOUT ROWID;

ALTER TABLE message ADD COLUMN conversation BIGINT;
ALTER TABLE message ADD COLUMN seq BIGINT;
ALTER TABLE message ADD COLUMN epoch BIGINT;
ALTER TABLE message ADD COLUMN author TEXT;
ALTER TABLE message ADD COLUMN kind TEXT;
ALTER TABLE message ADD COLUMN detail TEXT;
CREATE UNIQUE INDEX message_place ON message (conversation, seq) WHERE conversation IS NOT NULL;

DROP VIEW spool;
CREATE VIEW spool AS
SELECT id, sender, recipient, account, received_ms, content_type, headers, body, origin,
       conversation, seq, epoch, author, kind, detail,
       '[]' AS devices, '[]' AS accounts, NULL AS marks
FROM message;

CREATE TRIGGER spool_message INSTEAD OF INSERT ON spool BEGIN
    INSERT INTO message
        (id, sender, recipient, account, received_ms, content_type, headers, body, origin,
         conversation, seq, epoch, author, kind, detail)
    VALUES (NEW.id, NEW.sender, NEW.recipient, NEW.account, NEW.received_ms, NEW.content_type,
            NEW.headers, NEW.body, NEW.origin,
            NEW.conversation, NEW.seq, NEW.epoch, NEW.author, NEW.kind, NEW.detail);
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
