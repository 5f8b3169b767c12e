//! How many connections there may be, in all and from one source.
//!
//! *Invariant*: a place is given back when its connection is gone, however that ended.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections of all shards.
#[derive(Debug)]
pub struct Admission {
    all_max: usize,
    source_max: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A connection's place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl Admission {
    /// Room for so many connections in all and so many of one source.
    pub fn new(all_max: usize, source_max: usize) -> Self {
        Self {
            all_max,
            source_max,
            taken: Mutex::default(),
        }
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.lock().all
    }

    pub(crate) fn admit(self: &Arc<Self>, remote: IpAddr) -> Option<Admitted> {
        let source = source(remote);
        let mut taken = self.lock();
        if taken.all >= self.all_max {
            return None;
        }
        let of_source = taken.sources.entry(source).or_default();
        if *of_source >= self.source_max {
            return None;
        }
        *of_source += 1;
        taken.all += 1;
        drop(taken);
        Some(Admitted {
            admission: Arc::clone(self),
            source,
        })
    }

    /// A poisoned lock: the counts are whole after every statement.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut taken = self.admission.lock();
        taken.all -= 1;
        let left = taken.sources.get_mut(&self.source).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            taken.sources.remove(&self.source);
        }
    }
}

/// One source: an IPv4 address, or the /64 that an IPv6 host can roam in.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_come_back() {
        let admission = Arc::new(Admission::new(3, 2));
        let (a, b): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), [127, 0, 0, 1].into());
        let first = admission.admit(a).unwrap();
        let second = admission.admit("2001:db8::ffff".parse().unwrap()).unwrap();
        assert!(admission.admit(a).is_none(), "two of one /64 are enough");
        let third = admission.admit(b).unwrap();
        assert!(
            admission.admit([127, 0, 0, 2].into()).is_none(),
            "three in all"
        );
        drop((first, third));
        assert_eq!(admission.open(), 1);
        assert!(admission.admit(a).is_some());
        drop(second);
        assert_eq!(admission.open(), 0);
        assert!(admission.lock().sources.is_empty());
    }
}
