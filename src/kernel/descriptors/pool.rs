//! Values with reference counts, by number. A value goes with its last reference.

/// A number of values.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct Pool<T> {
    slots: Vec<Option<Counted<T>>>,
    free: Vec<usize>,
    /// The references to all values.
    references: usize,
    /// The serial number of the next value.
    next_serial: u64,
}

#[derive(Clone, Debug)]
struct Counted<T> {
    value: T,
    references: usize,
    serial: u64,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool {
            slots: Vec::new(),
            free: Vec::new(),
            references: 0,
            next_serial: 0,
        }
    }
}

impl<T> Pool<T> {
    /// Adds a value with one reference.
    pub fn add(&mut self, value: T) -> usize {
        self.add_as(self.next_serial, value)
    }

    /// Adds a value that has this serial number in another pool.
    pub fn add_as(&mut self, serial: u64, value: T) -> usize {
        self.next_serial = self.next_serial.max(serial.saturating_add(1));
        self.references += 1;
        let counted = Some(Counted {
            value,
            references: 1,
            serial,
        });
        match self.free.pop() {
            Some(at) => {
                self.slots[at] = counted;
                at
            }
            None => {
                self.slots.push(counted);
                self.slots.len() - 1
            }
        }
    }

    /// Adds a reference.
    pub fn acquire(&mut self, at: usize) {
        if let Some(counted) = self.slots.get_mut(at).and_then(Option::as_mut) {
            counted.references += 1;
            self.references += 1;
        }
    }

    /// Drops a reference. Returns the value if that was the last.
    pub fn release(&mut self, at: usize) -> Option<T> {
        let slot = self.slots.get_mut(at)?;
        let counted = slot.as_mut()?;
        self.references -= 1;
        counted.references -= 1;
        if counted.references > 0 {
            return None;
        }
        self.free.push(at);
        slot.take().map(|counted| counted.value)
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        self.slots.get(at)?.as_ref().map(|counted| &counted.value)
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let slot = self.slots.get_mut(at)?;
        slot.as_mut().map(|counted| &mut counted.value)
    }

    /// The value's serial number, which no other value ever has.
    pub fn serial(&self, at: usize) -> Option<u64> {
        self.slots.get(at)?.as_ref().map(|counted| counted.serial)
    }

    /// Gives a value another serial number.
    pub fn set_serial(&mut self, at: usize, serial: u64) {
        if let Some(counted) = self.slots.get_mut(at).and_then(Option::as_mut) {
            counted.serial = serial;
        }
        self.next_serial = self.next_serial.max(serial.saturating_add(1));
    }

    /// The serial numbers of all values.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().flatten().map(|counted| counted.serial)
    }

    /// All values with their serial numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let all = self.slots.iter().flatten();
        all.map(|counted| (counted.serial, &counted.value))
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten().map(|counted| &counted.value)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let all = self.slots.iter_mut().flatten();
        all.map(|counted| &mut counted.value)
    }

    /// Whether there are several references to a value.
    pub fn is_shared(&self, at: usize) -> bool {
        let counted = self.slots.get(at).and_then(Option::as_ref);
        counted.is_some_and(|counted| counted.references > 1)
    }

    /// The number of references to all values.
    pub fn references(&self) -> usize {
        self.references
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_with_its_last_reference_and_leaves_its_number() {
        let mut pool = Pool::default();
        let (a, b) = (pool.add("a"), pool.add("b"));
        assert_eq!((pool.serial(a), pool.serial(b)), (Some(0), Some(1)));
        pool.acquire(a);
        assert!(pool.is_shared(a) && !pool.is_shared(b));
        assert_eq!((pool.release(a), pool.get(a)), (None, Some(&"a")));
        assert_eq!((pool.release(a), pool.get(a)), (Some("a"), None));
        assert_eq!((pool.release(a), pool.references()), (None, 1));
        assert_eq!((pool.add("c"), pool.get(b)), (a, Some(&"b")));
        assert_eq!(pool.serial(a), Some(2));
    }
}
