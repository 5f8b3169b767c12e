//! Bus, leases, membership: one node by default.
//!
//! A lease says which node runs a resource (a conversation, a room), and its epoch fences what
//! an earlier owner still tries to write: a store accepts a write only with the latest epoch.
//! [`Local`] is the cluster of one: every lease is granted, and each grant has a later epoch
//! than all before it, so that code written against it keeps working among several nodes.
//!
//! *Invariant*: for one resource no two grants have the same epoch, and a later grant has a
//! greater one.
#![warn(missing_docs)]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names a node among those of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Box<str>);

impl NodeId {
    /// A node of that name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The order of grants; greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The right to run a resource, until it is released or granted to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub resource: Box<str>,
    /// Who has it.
    pub owner: NodeId,
    /// What every write made under it carries.
    pub epoch: Epoch,
}

/// A cluster of one node.
#[derive(Debug)]
pub struct Local {
    node: NodeId,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    last: Epoch,
    leases: HashMap<Box<str>, Epoch>,
}

impl Local {
    /// The only node, with epochs after `last`: what the store saw before the restart, so that
    /// a write left over from an earlier run is fenced too.
    pub fn new(node: NodeId, last: Epoch) -> Self {
        let held = Held {
            last,
            leases: HashMap::new(),
        };
        Self {
            node,
            held: Mutex::new(held),
        }
    }

    /// This node.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// All nodes.
    pub fn members(&self) -> Vec<NodeId> {
        vec![self.node.clone()]
    }

    /// Grants the resource to this node, with a new epoch.
    pub fn acquire(&self, resource: &str) -> Lease {
        let mut held = self.held();
        held.last = Epoch(held.last.0 + 1);
        let epoch = held.last;
        held.leases.insert(resource.into(), epoch);
        Lease {
            resource: resource.into(),
            owner: self.node.clone(),
            epoch,
        }
    }

    /// Whether the lease is the latest for its resource, and not released.
    pub fn is_current(&self, lease: &Lease) -> bool {
        self.held().leases.get(&lease.resource) == Some(&lease.epoch)
    }

    /// Gives the resource back; an outdated lease releases nothing.
    pub fn release(&self, lease: &Lease) {
        let mut held = self.held();
        if held.leases.get(&lease.resource) == Some(&lease.epoch) {
            held.leases.remove(&lease.resource);
        }
    }

    /// Who runs the resource now.
    pub fn owner(&self, resource: &str) -> Option<NodeId> {
        let held = self.held().leases.contains_key(resource);
        held.then(|| self.node.clone())
    }

    // No step between lock and unlock can leave the table half changed.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_grant_fences_the_earlier_one() {
        let cluster = Local::new(NodeId::new("one"), Epoch(41));
        let first = cluster.acquire("conversation/7");
        assert_eq!(first.epoch, Epoch(42));
        assert!(cluster.is_current(&first));
        let second = cluster.acquire("conversation/7");
        assert!(second.epoch > first.epoch);
        assert!(!cluster.is_current(&first));
        cluster.release(&first);
        assert_eq!(cluster.owner("conversation/7"), Some(NodeId::new("one")));
        cluster.release(&second);
        assert_eq!(cluster.owner("conversation/7"), None);
        assert!(!cluster.is_current(&second));
    }

    #[test]
    fn resources_are_apart() {
        let cluster = Local::new(NodeId::new("one"), Epoch(0));
        let a = cluster.acquire("a");
        let b = cluster.acquire("b");
        assert!(cluster.is_current(&a) && cluster.is_current(&b));
        assert_eq!(cluster.members(), vec![cluster.node().clone()]);
    }
}
