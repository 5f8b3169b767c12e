//! The ubiquitous language as plain data: addresses, accounts, devices, messages.
