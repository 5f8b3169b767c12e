-- Accounts, devices, aliases, bindings and the message spool.
-- Times are Unix milliseconds. `changed` is the number of the directory change that last
-- touched the row; numbers come from `counter`, whoever writes.

CREATE TABLE counter (
    name  TEXT PRIMARY KEY NOT NULL,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('directory', 0);

CREATE TABLE setting (
    key   TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
);

-- AUTOINCREMENT: a number is never used again, so a removal can be told by number alone.
CREATE TABLE account (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    address  TEXT NOT NULL UNIQUE,
    name     TEXT NOT NULL,
    profile  TEXT NOT NULL,
    role     TEXT NOT NULL,
    disabled BOOLEAN NOT NULL,
    password TEXT,
    changed  BIGINT NOT NULL
);
CREATE INDEX account_changed ON account (changed);

CREATE TABLE reset_token (
    hash       BLOB PRIMARY KEY NOT NULL,
    account    BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX reset_token_account ON reset_token (account);

-- Further addresses of an account: extensions and other names.
CREATE TABLE alias (
    address TEXT PRIMARY KEY NOT NULL,
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    changed BIGINT NOT NULL
);
CREATE INDEX alias_account ON alias (account);
CREATE INDEX alias_changed ON alias (changed);

CREATE TABLE device (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account    BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    label      TEXT NOT NULL,
    sip_user   TEXT NOT NULL,
    realm      TEXT NOT NULL,
    ha1_sha256 BLOB NOT NULL,
    ha1_md5    BLOB,
    created_ms BIGINT NOT NULL,
    changed    BIGINT NOT NULL,
    UNIQUE (sip_user, realm)
);
CREATE INDEX device_account ON device (account);
CREATE INDEX device_changed ON device (changed);

-- What was removed, for those who follow the directory.
CREATE TABLE removed (
    changed BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    id      BIGINT NOT NULL,
    account BIGINT NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX removed_changed ON removed (changed);

-- One row holds all bindings of an address, so that a write-behind is one upsert.
CREATE TABLE binding (
    aor      TEXT PRIMARY KEY NOT NULL,
    bindings TEXT NOT NULL
) WITHOUT ROWID;

-- The archive. Numbers come from the one writer, in the order of commitment.
CREATE TABLE message (
    id           INTEGER PRIMARY KEY,
    sender       TEXT NOT NULL,
    recipient    TEXT NOT NULL,
    account      BIGINT NOT NULL,
    received_ms  BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    headers      TEXT NOT NULL,
    body         BLOB NOT NULL,
    origin       BLOB NOT NULL
);

-- What each device has yet to get. Without foreign keys: a row costs two searches less, and
-- the directory's removals and the writer's sweep keep it right.
CREATE TABLE delivery (
    device  BIGINT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (device, message)
) WITHOUT ROWID;

-- Messages to an account without a device; they become deliveries of the first device added.
CREATE TABLE waiting (
    account BIGINT NOT NULL,
    message BIGINT NOT NULL,
    PRIMARY KEY (account, message)
) WITHOUT ROWID;

-- The writer's door to the spool: one INSERT of many rows is one transaction in one statement.
-- `devices` is a JSON list of numbers; `marks`, on one row at most, one of [device, message].
CREATE VIEW spool AS
SELECT id, sender, recipient, account, received_ms, content_type, headers, body, origin,
       '[]' AS devices, NULL AS marks
FROM message;

CREATE TRIGGER spool_message INSTEAD OF INSERT ON spool BEGIN
    INSERT INTO message
        (id, sender, recipient, account, received_ms, content_type, headers, body, origin)
    VALUES (NEW.id, NEW.sender, NEW.recipient, NEW.account, NEW.received_ms, NEW.content_type,
            NEW.headers, NEW.body, NEW.origin);
END;

CREATE TRIGGER spool_devices INSTEAD OF INSERT ON spool WHEN NEW.devices <> '[]' BEGIN
    INSERT INTO delivery (device, message)
    SELECT value, NEW.id FROM json_each(NEW.devices) WHERE true ON CONFLICT DO NOTHING;
END;

-- No device that the server knew of: those that came a moment ago, or the account waits.
CREATE TRIGGER spool_nobody INSTEAD OF INSERT ON spool WHEN NEW.devices = '[]' BEGIN
    INSERT INTO delivery (device, message)
    SELECT id, NEW.id FROM device WHERE account = NEW.account;
    INSERT INTO waiting (account, message)
    SELECT NEW.account, NEW.id
    WHERE NOT EXISTS (SELECT 1 FROM device WHERE account = NEW.account);
END;

CREATE TRIGGER spool_marks INSTEAD OF INSERT ON spool WHEN NEW.marks IS NOT NULL BEGIN
    DELETE FROM delivery WHERE (device, message) IN
        (SELECT value ->> 0, value ->> 1 FROM json_each(NEW.marks));
END;
