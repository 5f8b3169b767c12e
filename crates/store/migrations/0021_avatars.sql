-- The picture that somebody shows of himself: an upload.
CREATE TABLE avatar (
    account BIGINT PRIMARY KEY NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    file    BIGINT NOT NULL
);
CREATE INDEX avatar_file ON avatar (file);
CREATE INDEX conversation_avatar ON conversation (avatar) WHERE avatar <> '';
