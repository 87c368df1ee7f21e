//! Directories that a process was listing when it went live. In the sandbox their entries come in another order: the process
//! gets each that it has not got yet.

use super::engine::Engine;
use crate::inject::Result;
use crate::inject::hook::HookCall;
use crate::syscall::{Memory, directory_entries};
use crate::tracee::Stopped;
use crate::world::Listing;
use std::collections::HashMap;

/// What a process has been told of directories, by its descriptors.
#[derive(Default)]
pub(super) struct Listings(HashMap<i32, Listing>);

impl Listings {
    /// These descriptors are at the beginning of their directories, of which that has been read.
    pub fn new(listings: HashMap<i32, Listing>) -> Listings {
        Listings(listings)
    }

    /// Follows a call after which a descriptor is another one, or at another place.
    fn follow(&mut self, seen: &HookCall) {
        let fd = |arg: usize| seen.args[arg] as i32;
        match seen.call.name {
            "close" | "lseek" => _ = self.0.remove(&fd(0)),
            "dup2" | "dup3" => _ = self.0.remove(&fd(1)),
            "close_range" => {
                let (first, last) = (seen.args[0] as u32, seen.args[1] as u32);
                self.0
                    .retain(|&fd, _| !(first..=last).contains(&(fd as u32)));
            }
            _ => {}
        }
    }
}

impl Engine<'_> {
    /// Takes the entries that the process has got already away from an answer. Returns the value for the call.
    pub(super) fn go_on_listing(
        &mut self,
        process: i32,
        task: &mut Stopped,
        seen: &HookCall,
        mut ret: i64,
    ) -> Result<i64> {
        let Some(listings) = self.listings.get_mut(&process) else {
            return Ok(ret);
        };
        listings.follow(seen);
        if !seen.call.name.starts_with("getdents") {
            return Ok(ret);
        }
        let Some(listing) = listings.0.get(&(seen.args[0] as i32)) else {
            return Ok(ret);
        };
        let Listing::Names(names) = listing else {
            return Ok(ret.min(0));
        };
        while ret > 0 {
            let mut bytes = vec![0; ret as usize];
            let n = Memory::read(&seen.memory, seen.args[1], &mut bytes);
            let entries = directory_entries(&bytes[..n], seen.call.name == "getdents64");
            let rest = entries.filter(|(_, name)| !names.contains(*name));
            let rest = rest.map(|(entry, _)| entry).collect::<Vec<_>>().concat();
            if !rest.is_empty() {
                seen.memory.write(seen.args[1], &rest)?;
                return Ok(rest.len() as i64);
            }
            let mut remote = task.remote_at_boundary()?;
            ret = remote.call(seen.call.nr.into(), seen.args)?;
            remote.finish()?;
        }
        Ok(ret)
    }
}
