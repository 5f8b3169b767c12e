-- Presence, subscriptions, and who may see whom. Times are Unix milliseconds.

-- What persons say of themselves.
CREATE TABLE presence (
    account      BIGINT PRIMARY KEY NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    availability TEXT,
    note         TEXT NOT NULL,
    until_ms     BIGINT
);

-- Published documents (RFC 3903), by the name that their publisher knows them by.
CREATE TABLE publication (
    etag       TEXT PRIMARY KEY NOT NULL,
    account    BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    device     BIGINT NOT NULL,
    body       TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
CREATE INDEX publication_account ON publication (account);

-- Subscriptions with their dialogs (RFC 6665), by our tag. Without foreign keys: addresses change hands, and who may
-- watch is asked again at every start.
CREATE TABLE subscription (
    local_tag   TEXT PRIMARY KEY NOT NULL,
    package     TEXT NOT NULL,
    address     TEXT NOT NULL,
    watcher     TEXT,
    device      BIGINT,
    flow        TEXT NOT NULL,
    event       TEXT NOT NULL,
    contact     TEXT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    call_id     BLOB NOT NULL,
    remote_tag  TEXT NOT NULL,
    local       BLOB NOT NULL,
    remote      BLOB NOT NULL,
    target      TEXT NOT NULL,
    routes      TEXT NOT NULL,
    local_cseq  BIGINT NOT NULL,
    remote_cseq BIGINT NOT NULL,
    version     BIGINT NOT NULL
) WITHOUT ROWID;

-- Contact lists. `requested`: the account asks to see the address; `approved`: the address may see the account.
CREATE TABLE contact (
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    state   TEXT NOT NULL,
    PRIMARY KEY (account, address, state)
) WITHOUT ROWID;
CREATE INDEX contact_address ON contact (address, state);

-- Who sees nothing of an account.
CREATE TABLE block (
    account BIGINT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    PRIMARY KEY (account, address)
) WITHOUT ROWID;
