//! Sans-IO SIP: zero-copy messages, transactions, dialogs, proxy response contexts, digest.
