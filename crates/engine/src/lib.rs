//! Who runs where: SIP shards, delivery, supervision, drain.
