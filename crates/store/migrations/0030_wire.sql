-- Messages that will not reach a member: ranges of the sequence.
CREATE TABLE failure (
    conversation BIGINT NOT NULL,
    address      TEXT NOT NULL,
    first        BIGINT NOT NULL,
    last         BIGINT NOT NULL,
    PRIMARY KEY (conversation, address, first)
) WITHOUT ROWID;

-- What a device has shown that it understands beside plain texts: a sum of bits.
CREATE TABLE ability (
    device BIGINT NOT NULL PRIMARY KEY,
    bits   BIGINT NOT NULL
) WITHOUT ROWID;

-- What is of no conversation: word of what became of a message, until its device has it.
CREATE INDEX message_passing ON message (id) WHERE conversation IS NULL;
