//! SQL truth: accounts, devices, bindings, message spool.
