-- Full text of what was said, by the number of the event. The texts themselves stay where they
-- are; ideographs are kept one by one, so that a word of them is found as a phrase.
CREATE VIRTUAL TABLE search USING fts5 (
    text,
    content = '',
    contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO counter (name, value) VALUES ('search', 0);
