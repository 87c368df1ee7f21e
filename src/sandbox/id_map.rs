//! User and group ids in a sandbox: each id is mapped to itself, but for a user whom a process knows by other ones.

use std::fs;
use std::io::Result;
use std::os::unix::fs::MetadataExt;

/// The mapped ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdMap {
    uids: String,
    gids: String,
    deny_groups: bool,
}

impl IdMap {
    /// All ids for root, otherwise the caller's own.
    pub(super) fn of_caller() -> Result<IdMap> {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if !uid.is_root() {
            return Ok(IdMap::one(uid.as_raw(), gid.as_raw()));
        }
        let known = |file: &str| fs::read_to_string(format!("/proc/self/{file}"));
        Ok(IdMap {
            uids: onto_themselves(&known("uid_map")?),
            gids: onto_themselves(&known("gid_map")?),
            deny_groups: false,
        })
    }

    fn one(uid: u32, gid: u32) -> IdMap {
        IdMap {
            uids: format!("{uid} {uid} 1"),
            gids: format!("{gid} {gid} 1"),
            deny_groups: true,
        }
    }

    /// The map in which a user without privileges has these ids inside. Root's processes take ids themselves.
    pub(super) fn shown_as(&self, user: Option<(u32, u32)>) -> IdMap {
        let Some((uid, gid)) = user.filter(|_| self.deny_groups) else {
            return self.clone();
        };
        let shown = |map: &str, id: u32| -> String {
            let own = lines(map).map(|[_, own, count]| format!("{id} {own} {count}"));
            own.collect()
        };
        IdMap {
            uids: shown(&self.uids, uid),
            gids: shown(&self.gids, gid),
            deny_groups: true,
        }
    }

    /// Whether these ids exist inside.
    pub(super) fn have(&self, (uid, gid): (u32, u32)) -> bool {
        let is_in =
            |map: &str, id: u32| lines(map).any(|[first, _, count]| is_within(id, first, count));
        is_in(&self.uids, uid) && is_in(&self.gids, gid)
    }

    /// The user and the group inside that are these outside, as far as they are mapped.
    pub(super) fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let inside = |map: &str, id: u32| {
            let mut lines = lines(map);
            let line = lines.find(|[_, first, count]| is_within(id, *first, *count));
            line.map_or(id, |[inner, first, _]| {
                (u64::from(id) - first + inner) as u32
            })
        };
        (inside(&self.uids, uid), inside(&self.gids, gid))
    }

    /// Writes the map for a process that has just entered a user namespace.
    pub(super) fn write(&self, pid: i32) -> Result<()> {
        if self.deny_groups {
            fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
        }
        fs::write(format!("/proc/{pid}/uid_map"), &self.uids)?;
        fs::write(format!("/proc/{pid}/gid_map"), &self.gids)
    }

    /// Whether the ids of all files are mapped, as far as rrapper sees them.
    pub(super) fn are_all(&self) -> bool {
        !self.deny_groups
    }

    /// Whether owner and group of a file are mapped, so that files can have them inside.
    pub(super) fn contain(&self, meta: &fs::Metadata) -> bool {
        holds(&self.uids, meta.uid()) && holds(&self.gids, meta.gid())
    }
}

/// The lines of an id map: first id inside, first outside, how many.
fn lines(map: &str) -> impl Iterator<Item = [u64; 3]> + '_ {
    map.lines().filter_map(|line| {
        let mut words = line.split_whitespace().map(|word| word.parse().ok());
        Some([words.next()??, words.next()??, words.next()??])
    })
}

/// Maps all ids of a map to themselves.
fn onto_themselves(map: &str) -> String {
    lines(map)
        .map(|[first, _, count]| format!("{first} {first} {count}\n"))
        .collect()
}

fn holds(map: &str, id: u32) -> bool {
    lines(map).any(|[_, first, count]| is_within(id, first, count))
}

fn is_within(id: u32, first: u64, count: u64) -> bool {
    (first..first.saturating_add(count)).contains(&id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_mapped_onto_itself() {
        let map = onto_themselves("         0     100000      65536\n 70000 5 1\n");
        assert_eq!(map, "0 0 65536\n70000 70000 1\n");
        assert!(holds(&map, 0) && holds(&map, 65535) && holds(&map, 70000));
        assert!(!holds(&map, 65536) && !holds(&map, 70001));
    }

    #[test]
    fn a_user_can_be_known_by_other_ids() {
        let map = IdMap::one(1000, 100);
        let other = map.shown_as(Some((0, 5)));
        assert_eq!((&other.uids[..], &other.gids[..]), ("0 1000 1", "5 100 1"));
        assert!(holds(&other.uids, 1000) && !holds(&other.uids, 0));
        assert_eq!(other.inside((1000, 100)), (0, 5));
        assert_eq!(other.inside((33, 100)), (33, 5));
        assert!(other.have((0, 5)) && !other.have((1000, 100)));
        assert_eq!(map.shown_as(None), map);
    }

    #[test]
    fn nonsense_in_a_map_is_passed_over() {
        assert_eq!(onto_themselves("a b c\n1 2\n"), "");
    }
}
