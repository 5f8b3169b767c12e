//! A table whose ids are never mistaken for those of a former tenant.
//!
//! *Invariant*: an id is valid for one tenant only: freeing a place changes its generation.

/// Place and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    index: u32,
    generation: u32,
}

impl Id {
    /// As one number, for branches and tags.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`Id::to_bits`].
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let [index, generation] =
            [bits & 0xffff_ffff, bits >> 32].map(|half| u32::try_from(half).unwrap_or(u32::MAX));
        Self { index, generation }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    tenant: Option<T>,
}

/// The table.
#[derive(Debug)]
pub struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Puts a tenant in.
    pub fn insert(&mut self, tenant: T) -> Id {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.tenant = Some(tenant);
            return Id {
                index,
                generation: place.generation,
            };
        }
        let index = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.places.push(Place {
            generation: 0,
            tenant: Some(tenant),
        });
        Id {
            index,
            generation: 0,
        }
    }

    /// The tenant, if it is still this one.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&T> {
        self.places
            .get(id.index as usize)
            .filter(|place| place.generation == id.generation)?
            .tenant
            .as_ref()
    }

    /// The tenant, if it is still this one.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation)?
            .tenant
            .as_mut()
    }

    /// Takes the tenant out.
    pub fn remove(&mut self, id: Id) -> Option<T> {
        let place = self
            .places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation)?;
        let tenant = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(tenant)
    }

    /// How many tenants there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All tenants with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        let id = |(index, place): (usize, &Place<T>)| Id {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            generation: place.generation,
        };
        self.places
            .iter()
            .enumerate()
            .filter_map(move |entry| Some((id((entry.0, entry.1)), entry.1.tenant.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_tenant_has_another_id() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert("b");
        assert_ne!(first, second);
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"b")));
        assert_eq!(Id::from_bits(second.to_bits()), second);
        assert_eq!(slab.len(), 1);
    }
}
