//! Lists that keep their first and their last items, and leave out those between where there are too many.

use std::collections::VecDeque;

/// The limits of each end of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// The number of items.
    pub items: usize,
    /// Their size together, in bytes.
    pub bytes: usize,
}

/// A list that keeps its ends.
#[derive(Debug)]
pub(super) struct Ends<T> {
    most: Most,
    first: Vec<T>,
    /// The size of the first items, in bytes.
    first_bytes: usize,
    /// The last items, each with its size.
    last: VecDeque<(T, usize)>,
    last_bytes: usize,
    left_out: u64,
}

impl<T> Ends<T> {
    /// An empty list with these limits.
    pub fn new(most: Most) -> Ends<T> {
        Ends {
            most,
            first: Vec::new(),
            first_bytes: 0,
            last: VecDeque::new(),
            last_bytes: 0,
            left_out: 0,
        }
    }

    /// Adds an item of this size in bytes.
    pub fn push(&mut self, item: T, bytes: usize) {
        let Most {
            items,
            bytes: limit,
        } = self.most;
        let fits = self.first.len() < items && self.first_bytes.saturating_add(bytes) <= limit;
        if fits && self.last.is_empty() && self.left_out == 0 {
            self.first_bytes += bytes;
            self.first.push(item);
            return;
        }
        self.last_bytes = self.last_bytes.saturating_add(bytes);
        self.last.push_back((item, bytes));
        while self.last.len() > items || self.last_bytes > limit {
            let Some((_, bytes)) = self.last.pop_front() else {
                break;
            };
            self.last_bytes -= bytes;
            self.left_out += 1;
        }
    }

    /// The items that are kept, in order, and a sentence about those that are not; `what` names all items.
    pub fn take(self, what: &str) -> (Vec<T>, Option<String>) {
        let (first, last) = (self.first.len(), self.last.len());
        let left_out = self.left_out;
        let told = (left_out > 0).then(|| {
            let all = left_out + (first + last) as u64;
            format!(
                "{left_out} of {all} {what}: the first {first} and the last {last} are kept, the others are left out"
            )
        });
        let mut items = self.first;
        items.extend(self.last.into_iter().map(|(item, _)| item));
        (items, told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(most: Most, all: impl IntoIterator<Item = usize>) -> (Vec<usize>, Option<String>) {
        let mut list = Ends::new(most);
        for item in all {
            list.push(item, item);
        }
        list.take("items")
    }

    #[test]
    fn what_fits_is_all_kept() {
        let most = Most {
            items: 5,
            bytes: 1_000,
        };
        assert_eq!(kept(most, 0..10), ((0..10).collect(), None));
    }

    #[test]
    fn the_middle_is_left_out() {
        let most = Most {
            items: 2,
            bytes: 1_000,
        };
        let (items, told) = kept(most, 0..10);
        assert_eq!(items, [0, 1, 8, 9]);
        let text = "6 of 10 items: the first 2 and the last 2 are kept, the others are left out";
        assert_eq!(told.as_deref(), Some(text));
    }

    #[test]
    fn large_items_leave_room_for_fewer() {
        let most = Most {
            items: 100,
            bytes: 10,
        };
        let (items, told) = kept(most, [4, 5, 6, 1, 2, 7, 3]);
        assert_eq!(items, [4, 5, 7, 3]);
        assert!(told.is_some_and(|told| told.starts_with("3 of 7 items")));
        // An item that no end has room for.
        assert_eq!(kept(most, [11, 1]).0, [1]);
    }
}
