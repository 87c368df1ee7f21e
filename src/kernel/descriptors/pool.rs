//! Things that have several holders, by number. Each goes when its last holder lets go of it.

/// A number of things.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct Pool<T> {
    held: Vec<Option<Held<T>>>,
    free: Vec<usize>,
    holders: usize,
    /// How many things were ever taken in.
    made: u64,
}

#[derive(Clone, Debug)]
struct Held<T> {
    thing: T,
    holders: usize,
    serial: u64,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool {
            held: Vec::new(),
            free: Vec::new(),
            holders: 0,
            made: 0,
        }
    }
}

impl<T> Pool<T> {
    /// Takes a thing in, for one holder.
    pub fn add(&mut self, thing: T) -> usize {
        self.add_as(self.made, thing)
    }

    /// The same, with the serial number that it has elsewhere.
    pub fn add_as(&mut self, serial: u64, thing: T) -> usize {
        self.made = self.made.max(serial.saturating_add(1));
        self.holders += 1;
        let held = Some(Held {
            thing,
            holders: 1,
            serial,
        });
        match self.free.pop() {
            Some(at) => {
                self.held[at] = held;
                at
            }
            None => {
                self.held.push(held);
                self.held.len() - 1
            }
        }
    }

    /// One holder more.
    pub fn hold(&mut self, at: usize) {
        if let Some(held) = self.held.get_mut(at).and_then(Option::as_mut) {
            held.holders += 1;
            self.holders += 1;
        }
    }

    /// One holder less. Returns the thing if that was the last.
    pub fn let_go(&mut self, at: usize) -> Option<T> {
        let slot = self.held.get_mut(at)?;
        let held = slot.as_mut()?;
        self.holders -= 1;
        held.holders -= 1;
        if held.holders > 0 {
            return None;
        }
        self.free.push(at);
        slot.take().map(|held| held.thing)
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        self.held.get(at)?.as_ref().map(|held| &held.thing)
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.held.get_mut(at)?.as_mut().map(|held| &mut held.thing)
    }

    /// The thing's serial number, which no other ever has.
    pub fn serial(&self, at: usize) -> Option<u64> {
        self.held.get(at)?.as_ref().map(|held| held.serial)
    }

    /// The serial numbers of all that there are.
    pub fn serials(&self) -> impl Iterator<Item = u64> {
        self.held.iter().flatten().map(|held| held.serial)
    }

    /// All that there are.
    pub fn things(&self) -> impl Iterator<Item = &T> {
        self.held.iter().flatten().map(|held| &held.thing)
    }

    /// The same, to be changed.
    pub fn things_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.held.iter_mut().flatten().map(|held| &mut held.thing)
    }

    /// Whether several hold this one.
    pub fn is_shared(&self, at: usize) -> bool {
        let held = self.held.get(at).and_then(Option::as_ref);
        held.is_some_and(|held| held.holders > 1)
    }

    /// How many holders all have together.
    pub fn holders(&self) -> usize {
        self.holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_goes_with_its_last_holder_and_leaves_its_number() {
        let mut pool = Pool::default();
        let (a, b) = (pool.add("a"), pool.add("b"));
        assert_eq!((pool.serial(a), pool.serial(b)), (Some(0), Some(1)));
        pool.hold(a);
        assert!(pool.is_shared(a) && !pool.is_shared(b));
        assert_eq!((pool.let_go(a), pool.get(a)), (None, Some(&"a")));
        assert_eq!((pool.let_go(a), pool.get(a)), (Some("a"), None));
        assert_eq!((pool.let_go(a), pool.holders()), (None, 1));
        assert_eq!((pool.add("c"), pool.get(b)), (a, Some(&"b")));
        assert_eq!(pool.serial(a), Some(2));
    }
}
