//! Bus, leases, membership: one node by default.
