-- What was done to a message: other wordings, and that it was taken back.
CREATE INDEX message_target ON message (conversation, detail ->> 'target', kind, seq)
WHERE kind IN ('edit', 'retraction');

-- The full text knows which conversation a text is of, so that one who searches pays for his own
-- conversations only. Filled anew from the beginning, in the background.
DROP TABLE search;
CREATE VIRTUAL TABLE search USING fts5 (
    text,
    place,
    content = '',
    contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2'
);
UPDATE counter SET value = 0 WHERE name = 'search';

-- Names of groups and of people are one set, whatever the capitals.
CREATE INDEX conversation_similar ON conversation (address COLLATE NOCASE);
