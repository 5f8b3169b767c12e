-- Uploaded files. What they hold lies beside the database, by its SHA-256; here stands what is known of it.

CREATE TABLE content (
    digest       BLOB PRIMARY KEY NOT NULL,
    octets       BIGINT NOT NULL,
    -- What it was found to be.
    content_type TEXT NOT NULL,
    width        BIGINT,
    height       BIGINT,
    duration_ms  BIGINT,
    -- The type of the small picture of it, where there is one.
    thumbnail    TEXT
);

-- Who uploaded what, by which name. Several may have uploaded the same.
CREATE TABLE upload (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account    BIGINT NOT NULL,
    digest     BLOB NOT NULL,
    name       TEXT NOT NULL,
    octets     BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- When somebody last set about to use it: what nobody uses is forgotten after a while.
    used_ms    BIGINT NOT NULL
);
CREATE INDEX upload_account ON upload (account);
CREATE INDEX upload_digest ON upload (digest);
CREATE INDEX upload_used ON upload (used_ms);

-- Which events bring a file, and which were taken back.
CREATE INDEX message_file ON message (detail -> 'file' ->> 'id') WHERE kind = 'file';
CREATE INDEX message_retraction ON message (conversation, detail ->> 'target') WHERE kind = 'retraction';
