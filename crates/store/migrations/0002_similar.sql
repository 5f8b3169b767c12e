-- Addresses that differ only in capitals are refused, and so have to be found.
CREATE INDEX account_similar ON account (address COLLATE NOCASE);
CREATE INDEX alias_similar ON alias (address COLLATE NOCASE);
